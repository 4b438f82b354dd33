// The drawer of terminals: a tab for each pod or node, a shell in each, over a websocket.

import { $, h } from "./dom.js";
import { t } from "./words.js";

const drawer = { open: false, tabs: new Map(), chosen: null, box: null, names: [], parts: null, highlight: () => {} };

export function terminalDrawer(names, highlight) {
  drawer.names = names;
  drawer.highlight = highlight;
  const places = h("select", { id: "terminalplace", "aria-label": t("ui.terminalplace") }, h("option", { value: "" }, t("ui.newterminal")), ...names.map((name) => h("option", { value: name }, name)));
  places.addEventListener("change", () => {
    if (places.value) openTerminal(places.value);
    places.value = "";
  });
  drawer.box = h("section", { id: "drawer", hidden: !drawer.open, "aria-label": t("ui.terminals") }, h("div.drawerhead", {}, h("div.tabs", { id: "terminaltabs" }), places, h("span.spacer"), h("button", { type: "button", onclick: () => showDrawer(false), title: t("ui.close"), "aria-label": t("ui.close") }, "×")), h("div", { id: "terminals" }));
  return drawer.box;
}

export function toggleDrawer() {
  showDrawer(!drawer.open);
  if (drawer.open && !drawer.tabs.size && drawer.names.length) openTerminal(drawer.names[0]);
}

function showDrawer(open) {
  drawer.open = open;
  drawer.box.hidden = !open;
  drawer.highlight(open ? drawer.chosen : null);
  if (open) drawer.tabs.get(drawer.chosen)?.fit();
}

// Open the terminal of a place, and type `command` into it without Enter.
export async function openTerminal(name, command = "") {
  showDrawer(true);
  if (!drawer.tabs.has(name)) {
    try {
      drawer.tabs.set(name, await makeTerminal(name));
    } catch (error) {
      $("terminals").append(h("p.verdict", {}, error.message));
      return;
    }
  }
  choose(name);
  if (command) drawer.tabs.get(name).type(command);
}

function choose(name) {
  drawer.chosen = name;
  for (const [key, tab] of drawer.tabs) tab.element.hidden = key !== name;
  $("terminaltabs").replaceChildren(...[...drawer.tabs.keys()].map((key) => h("button", { type: "button", "aria-pressed": String(key === name), onclick: () => choose(key) }, key)));
  drawer.highlight(name);
  drawer.tabs.get(name)?.fit();
  drawer.tabs.get(name)?.focus();
}

// The terminal writes its styles into style elements, which this page's policy forbids: they become style sheets.
function withSheets(build) {
  const create = document.createElement;
  document.createElement = function (tag, ...rest) {
    if (String(tag).toLowerCase() !== "style") return create.call(document, tag, ...rest);
    const stand = create.call(document, "span"), sheet = new CSSStyleSheet();
    stand.hidden = true;
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    Object.defineProperty(stand, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
    Object.defineProperty(stand, "sheet", { get: () => sheet });
    return stand;
  };
  try {
    return build();
  } finally {
    delete document.createElement;
  }
}

async function makeTerminal(name) {
  const base = new URL("static/vendor/xterm/", document.baseURI).href;
  drawer.parts ??= await Promise.all([import(`${base}xterm.mjs`), import(`${base}addon-fit.mjs`)]);
  const [{ Terminal }, { FitAddon }] = drawer.parts;
  const element = h("div.xterminal", { "aria-label": t("ui.terminalof", { name }) });
  $("terminals").append(element);
  const terminal = new Terminal({ fontSize: 14, fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"), scrollback: 2000, screenReaderMode: false });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  withSheets(() => terminal.open(element));
  const socket = new WebSocket(new URL(`ws/terminals/${encodeURIComponent(name)}`, document.baseURI.replace(/^http/, "ws")));
  socket.binaryType = "arraybuffer";
  const send = (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
  terminal.onData((data) => send({ type: "input", data }));
  terminal.onResize(({ rows, cols }) => send({ type: "size", rows, cols }));
  socket.onmessage = ({ data }) => terminal.write(typeof data === "string" ? `\r\n${data}\r\n` : new Uint8Array(data));
  socket.onclose = () => drawer.tabs.delete(name);
  await new Promise((done, failed) => {
    socket.onopen = done;
    socket.onerror = () => failed(new Error(t("bad.terminal", { name })));
  });
  const doFit = () => {
    fit.fit();
    send({ type: "size", rows: terminal.rows, cols: terminal.cols });
  };
  new ResizeObserver(() => !element.hidden && doFit()).observe(element);
  return { element, fit: doFit, focus: () => terminal.focus(), type: (text) => send({ type: "input", data: text }) };
}
