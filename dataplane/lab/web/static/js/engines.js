// The engines opened: one packet step by step, through all three engines side by side, and by each backend.

import { $, h, radios } from "./dom.js";
import { get, post } from "./api.js";
import { byteGrid, stackBar } from "./panels.js";
import { compare, hexes, layersOf, toBytes } from "./packet.js";
import { steppingFrame, steppingKey, leaveStepping } from "./stepping.js";
import { fit } from "./walk.js";
import { checkText, number, t } from "./words.js";

const MODES = ["step", "compare", "backends"];
const view = { lab: null, mode: "compare", node: null, samples: [], sample: null, asked: null, found: null, backends: null, busy: false, message: () => {}, terminal: () => {} };

export function enginesView(lab, handlers) {
  view.lab = lab;
  Object.assign(view, handlers);
  view.node = lab.nodes[0]?.name;
  return { show, leave: leaveStepping };
}

function show({ packet } = {}) {
  view.draw();
  if (packet) {
    view.mode = "compare";
    view.asked = packet;
    view.node = packet.node;
    view.sample = "";
    view.found = null;
  }
  $("body").replaceChildren(h("section.controls.band", { id: "enginesbar" }), h("section.panels", { id: "enginesbody" }));
  paint();
  if (packet) send();
}

function paint() {
  leaveStepping();
  const modes = h("div.tabs", { id: "modes", role: "radiogroup", "aria-label": t("view.engines") });
  const bar = $("enginesbar");
  bar.replaceChildren(modes);
  radios(modes, MODES.map((mode) => [mode, t(`ui.mode.${mode}`)]), view.mode, (mode) => {
    view.mode = mode;
    paint();
    $("modes").querySelector("[aria-checked=true]").focus();
  });
  $("enginesbody").className = view.mode === "compare" ? "panels compare" : "panels";
  if (view.mode === "step") steppingFrame(view, bar, $("enginesbody"), nodePicker(paint));
  else if (view.mode === "compare") compareFrame(bar);
  else backendsFrame(bar);
}

export function enginesKey(event) {
  return view.mode === "step" && steppingKey(event);
}

function nodePicker(then) {
  const pick = h("select", { id: "enginenode", "aria-label": t("ui.node") }, ...view.lab.nodes.map((node) => h("option", { value: node.name, selected: node.name === view.node }, node.name)));
  pick.addEventListener("change", () => {
    view.node = pick.value;
    view.samples = [];
    view.found = view.asked = view.sample = null;
    then();
  });
  return pick;
}

// ---- three engines

async function compareFrame(bar) {
  const button = h("button.main", { type: "button", id: "comparesend", onclick: send }, t("ui.sendthrough"));
  const place = h("span");
  bar.append(nodePicker(paint), place, button, h("span", { id: "enginesstatus", role: "status" }));
  $("enginesbody").replaceChildren(h("article.panel", { id: "rows", tabindex: -1 }), h("article.panel", { id: "question" }));
  paintFound();
  try {
    if (!view.samples.length) view.samples = (await get(`api/engines/${encodeURIComponent(view.node)}`)).samples;
  } catch (error) {
    view.message(error.message);
  }
  if (!$("question")) return;
  const pick = h("select", { id: "sample", "aria-label": t("ui.sample") }, h("option", { value: "" }, t("ui.ownpacket")), ...view.samples.map((one) => h("option", { value: one.key, selected: one.key === view.sample }, t(`ui.sample.${one.key}`))));
  pick.addEventListener("change", () => chooseSample(pick.value));
  place.replaceWith(pick);
  if (!view.asked && view.samples.length) chooseSample(view.samples[0].key);
  else paintQuestion();
}

function chooseSample(key) {
  view.sample = key;
  const one = view.samples.find((sample) => sample.key === key);
  if (one) view.asked = { way: one.way, hex: one.hex, sender: one.sender ?? "" };
  if ($("sample")) $("sample").value = key;
  paintQuestion();
}

function paintQuestion() {
  const asked = (view.asked ??= { way: "encap", hex: "", sender: "" });
  const own = () => {
    view.sample = "";
    if ($("sample")) $("sample").value = "";
  };
  const way = h("select", { id: "way", "aria-label": t("ui.way") }, ...["encap", "decap"].map((one) => h("option", { value: one, selected: one === asked.way }, t(`ui.${one}`))));
  const sender = h("input", { id: "sender", type: "text", value: asked.sender ?? "", spellcheck: "false", "aria-label": t("ui.sender") });
  const row = h("label.question", { hidden: asked.way !== "decap" }, `${t("ui.sender")} `, sender);
  const hex = h("textarea", { id: "hex", rows: 7, spellcheck: "false", "aria-label": t("ui.packethex") });
  hex.value = hexes(toBytes(asked.hex.replace(/\s/g, "")));
  way.addEventListener("change", () => {
    asked.way = way.value;
    row.hidden = asked.way !== "decap";
    own();
  });
  sender.addEventListener("input", () => (asked.sender = sender.value));
  hex.addEventListener("input", () => {
    asked.hex = hex.value;
    own();
  });
  $("question").replaceChildren(h("h3", {}, t("ui.packethex")), way, row, hex, h("div", { id: "leaves" }));
  paintLeaves();
}

async function send() {
  if (view.busy) return;
  if (!/^([0-9a-f]{2}|\s)*$/i.test(view.asked.hex)) {
    view.message(t("bad.hex"));
    return;
  }
  view.busy = true;
  $("enginesstatus").textContent = t("ui.working");
  try {
    const { way, hex, sender } = view.asked;
    view.found = await post(`api/engines/${encodeURIComponent(view.node)}`, { way, hex: hex.replace(/\s/g, ""), sender });
  } catch (error) {
    view.message(error.message);
  }
  view.busy = false;
  if (!$("rows")) return;
  $("enginesstatus").textContent = "";
  paintFound();
  paintLeaves();
}

const different = (values) => new Set(values).size > 1;

// Rows are steps, columns engines. What is equal is quiet; only a difference is in colour.
function paintFound() {
  const { found } = view;
  if (!found) return $("rows").replaceChildren(h("h3", {}, t("ui.mode.compare")), h("p", {}, t("ui.comparehint")));
  const there = found.engines.filter((one) => !one.missing), names = there.map((one) => one.engine);
  const row = (title, texts, codes = []) => {
    const odd = different(texts);
    return h("tr", { class: odd ? "odd" : "same" }, h("th", { scope: "row" }, title), ...texts.map((text, i) => h("td", {}, h("span", {}, text), " ", codes[i] ? h("code", {}, codes[i]) : "")));
  };
  const head = h("tr", {}, h("th", { scope: "col" }, t("ui.step.name")), ...names.map((name) => h("th", { scope: "col" }, t(`ui.engine.${name}`))));
  const steps = found.rows.map(({ step, cells }) => row(stepName(step), names.map((name) => cellText(cells[name])), names.map((name) => cells[name].code)));
  const times = h("tr.times", {}, h("th", { scope: "row" }, t("ui.time")), ...there.map((one) => h("td", {}, h("b", {}, t("ui.perpacket", { n: number(one.ns) })))));
  const ends = [row(t("ui.verdict"), there.map((one) => one.verdict)), row(t("ui.bytes.out"), there.map((one) => (one.egress === "NONE" ? t("ui.nobytes") : t("ui.total", { n: one.packet.len }))))];
  const missing = found.engines.filter((one) => one.missing).map((one) => h("p.note", {}, `${one.engine}: ${one.missing}`));
  const equal = !different(there.map((one) => `${one.verdict} ${one.next_hop} ${one.packet.hex}`));
  return $("rows").replaceChildren(h(equal ? "p.verdict.fine" : "p.verdict", { role: "status" }, equal ? `✓ ${t("ui.allequal", { n: there.length })}` : `✗ ${t("ui.notequal")}`), h("div.tablebox", { tabindex: 0, role: "group", "aria-label": t("ui.mode.compare") }, h("table.sidebyside", {}, h("thead", {}, head), h("tbody", {}, ...ends, times, ...steps))), ...missing, variables(found.checks));
}

function stepName(step) {
  return t(`ui.stepname.${step}`);
}

function cellText({ ok, value }) {
  return ok === null ? "·" : `${ok ? "✓" : "✗"} ${value}`.trim();
}

function variables(checks) {
  return h("details.ask", {}, h("summary", {}, t("ui.watched")), h("ol.checks", {}, ...checks.map((check) => {
    const [heading, details] = checkText(check);
    return h(check.ok ? "li" : "li.no", {}, h("span.mark", {}, check.ok ? "✓" : "✗"), h("span", {}, h("b", {}, heading), " ", h("small", {}, details)));
  })));
}

// What goes out, once where the engines agree, else of each.
function paintLeaves() {
  if (!$("leaves")) return;
  const { found } = view;
  const out = (found?.engines ?? []).filter((one) => !one.missing && one.egress !== "NONE");
  if (!out.length) return $("leaves").replaceChildren(found ? h("p.note", {}, t("ui.nobytes")) : "");
  const groups = different(out.map((one) => one.packet.hex)) ? out : out.slice(0, 1);
  const before = layersOf(found.packet);
  const show = (one) => [h("h3", {}, groups.length > 1 ? t("ui.outof", { name: one.engine }) : t("ui.outofall")), byteGrid(layersOf(one.packet), compare(before, layersOf(one.packet)), 10).element];
  return $("leaves").replaceChildren(...groups.flatMap(show));
}

// ---- three backends

function backendsFrame(bar) {
  bar.append(h("button.main", { type: "button", id: "backendsend", onclick: pingAll }, t("ui.pingall")), h("span", { id: "enginesstatus", role: "status" }));
  paintBackends();
}

async function pingAll() {
  $("enginesstatus").textContent = t("ui.working");
  try {
    view.backends = await post("api/backends");
  } catch (error) {
    view.message(error.message);
  }
  if (!$("backendsend")) return;
  $("enginesstatus").textContent = "";
  paintBackends();
}

function paintBackends() {
  const found = view.backends?.backends ?? [];
  if (!found.length) return $("enginesbody").replaceChildren(h("article.panel.wide", { tabindex: -1 }, h("h3", {}, t("ui.mode.backends")), h("p", {}, t("ui.backendshint"))));
  $("enginesbody").className = "panels equal";
  $("enginesbody").style.setProperty("--n", found.length);
  $("enginesbody").replaceChildren(...found.map(backend));
  return fit();
}

function backend(one) {
  const head = [h("h2", {}, one.backend), h("p.crumb", {}, t("ui.backendway", { from: one.from, to: one.to, node: one.node }))];
  if (one.missing) return h("article.panel", { tabindex: -1 }, ...head, h("p.verdict", {}, one.missing));
  const layers = layersOf(one.packet), inner = layers.findLastIndex((layer) => layer.kind === "ip" || layer.kind === "ip6");
  const around = layers.slice(0, inner).reduce((sum, layer) => sum + layer.len, 0);
  const ethernet = layers[0]?.kind === "eth" ? layers[0].len : 0;
  return h("article.panel", { tabindex: -1 }, ...head, stackBar(layers, compare(null, layers)), h("p.lead", {}, t("ui.overhead", { n: one.packet.len, extra: around - ethernet })), byteGrid(layers, compare(null, layers), 10).element);
}
