// The engine of a node, stopped at each of its named steps: its steps so far, the bytes, the variables.

import { $, h } from "./dom.js";
import { byteGrid, stackBar } from "./panels.js";
import { compare, layersOf } from "./packet.js";
import { checkText, t } from "./words.js";

const state = { view: null, socket: null, steps: [], at: 0, waiting: false, said: "" };

export function steppingFrame(view, bar, body, picker) {
  state.view = view;
  const button = (id, act, kind = "") => h("button", { type: "button", class: kind, id: `step-${id}`, onclick: act }, t(`ui.step.${id}`));
  bar.append(picker, button("connect", connect, "main"), button("on", () => say("step")), button("packet", () => say("packet")), button("leave", leaveStepping), button("ping", ping), h("span", { id: "stepstatus", role: "status" }));
  body.replaceChildren(h("article.panel", { id: "stepsofar", tabindex: -1 }), h("article.panel", { id: "stepbytes" }), h("article.panel", { id: "stepvariables" }));
  paint();
}

export function leaveStepping() {
  const { socket } = state;
  state.socket = null;
  state.waiting = false;
  socket?.close();
  if ($("stepstatus")) paint();
}

function connect() {
  leaveStepping();
  state.steps = [];
  state.said = "";
  const socket = new WebSocket(new URL(`ws/steps/${encodeURIComponent(state.view.node)}`, document.baseURI.replace(/^http/, "ws")));
  state.socket = socket;
  socket.onmessage = ({ data }) => state.socket === socket && got(JSON.parse(data));
  socket.onclose = () => {
    if (state.socket !== socket) return;
    state.socket = null;
    state.waiting = false;
    if ($("stepstatus")) paint();
  };
  paint();
}

function got(message) {
  if (message.error) state.said = message.error;
  if (message.check) {
    if (message.check.name === "read") state.steps = [];
    state.steps.push(message);
    state.at = state.steps.length - 1;
    state.waiting = true;
  }
  paint();
}

function say(word) {
  if (!state.waiting) return;
  state.waiting = false;
  state.socket?.send(word);
  paint();
}

// A packet to stop at: typed into a terminal of a pod there, as a student would.
function ping() {
  const { lab, node, terminal } = state.view;
  const here = lab.pods.find((pod) => pod.node === node), there = lab.pods.find((pod) => pod.node !== node);
  if (here && there) terminal(here.name, `ping -c 1 -W 60 ${there.name}`);
}

export function steppingKey(event) {
  const button = event.target.closest?.("button,[role=button],summary,a");
  if (event.key === "Enter" && !button) say("step");
  else if (event.key === "ArrowRight" && state.at === state.steps.length - 1) say("step");
  else if (event.key === "ArrowRight") look(state.at + 1);
  else if (event.key === "ArrowLeft") look(state.at - 1);
  else if (event.key === "p") say("packet");
  else if (event.key === "q") leaveStepping();
  else return;
  event.preventDefault();
}

function look(i) {
  state.at = Math.max(0, Math.min(state.steps.length - 1, i));
  paint();
}

function paint() {
  const going = Boolean(state.socket);
  $("step-connect").disabled = going;
  for (const id of ["on", "packet"]) $(`step-${id}`).disabled = !state.waiting;
  $("step-leave").disabled = !going;
  $("stepstatus").textContent = state.said || (going ? (state.waiting ? t("ui.step.stopped", { name: state.view.node }) : t("ui.step.waits", { name: state.view.node })) : "");
  const item = (one, i) => {
    const [heading, details] = checkText(one.check);
    return h(one.check.ok ? "li" : "li.no", {}, h("span.mark", {}, one.check.ok ? "✓" : "✗"), h("button.link.plain", { type: "button", "aria-current": i === state.at ? "step" : null, onclick: () => look(i) }, h("b", {}, heading), " ", h("small", {}, details)));
  };
  $("stepsofar").replaceChildren(h("h3", {}, t("ui.mode.step")), state.steps.length ? h("ol.checks", {}, ...state.steps.map(item)) : h("p", {}, t("ui.step.hint")));
  paintStep(state.steps[state.at], state.steps[state.at - 1]);
}

function paintStep(step, before) {
  if (!step) {
    $("stepbytes").replaceChildren();
    $("stepvariables").replaceChildren();
    return;
  }
  const layers = layersOf(step.packet), difference = compare(before ? layersOf(before.packet) : null, layers);
  $("stepbytes").replaceChildren(h("h3", {}, t("ui.bytes"), h("b.ink", {}, t("ui.total", { n: step.packet.len }))), stackBar(layers, difference), byteGrid(layers, difference, layers.some((layer) => layer.kind === "ip6") ? 24 : 20).element);
  $("stepvariables").replaceChildren(h("h3", {}, t("ui.variables")), h("table.counters", {}, ...Object.entries(step.check.args).map(([name, value]) => h("tr", {}, h("td", {}, h("code", {}, name)), h("td", {}, h("code", {}, valueText(value)))))));
}

function valueText(value) {
  if (Array.isArray(value)) return value.map((one) => (one && typeof one === "object" ? `${one.masked}${one.hit ? " ✓" : ""}` : String(one))).join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([key, one]) => `${key} ${one}`).join(", ");
  return String(value);
}
