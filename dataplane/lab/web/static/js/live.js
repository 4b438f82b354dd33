// The live picture: rates and totals on every wire, what each udplane has counted, captures by a click.

import { $, h, s } from "./dom.js";
import { get } from "./api.js";
import { capturedLinks, captureFrame, refreshCaptures, startCapture } from "./capture.js";
import { clearStep, drawMap, mapElement, onMap, picture, zoom } from "./map.js";
import { walkForm } from "./walkform.js";
import { number, t } from "./words.js";

const PACE = 1000;
const live = { lab: null, timer: 0, last: null, base: null, focus: null, whole: true, since: false, message: () => {}, terminal: () => {} };

export function liveView(lab, handlers) {
  live.lab = lab;
  Object.assign(live, handlers);
  const alone = (pod) => lab.pods.filter((one) => one.node === pod.node).length < 3;
  live.focus ??= { nodes: [], pods: (lab.pods ?? []).filter(alone).map((pod) => pod.name) };
  return { show, leave };
}

function show() {
  $("body").replaceChildren(h("section.controls.band", {}, switches(), walkForm(live.lab, live.walked, live.message)), h("section.panels.two", {}, h("article.panel", { id: "captures", tabindex: -1 }), h("article.panel", { id: "nodes" })));
  draw();
  captureFrame($("captures"), { message: live.message, follow: live.follow });
  onMap({ visit: station, link: (link) => startCapture(link.where, link.device), node: bring });
  live.timer = setInterval(tick, PACE);
  tick();
}

function leave() {
  clearInterval(live.timer);
}

function draw() {
  drawMap($("scroll"), live.lab, live.focus);
  clearStep();
  const more = zoom(live.whole);
  $("wholelab").hidden = !more;
  for (const hit of mapElement().querySelectorAll(".hit")) hit.setAttribute("tabindex", 0);
  paint();
}

// A small node that is clicked becomes a large one.
function bring(name) {
  live.focus.nodes = [name, ...live.focus.nodes.filter((one) => one !== name)].slice(0, 2);
  draw();
}

export function toggleWholeLab() {
  live.whole = !live.whole;
  zoom(live.whole);
}

function station(one) {
  if (["eth0", "veth", "bridge", "tunnel", "underlay", "wire"].includes(one.place) && one.device) startCapture(one.where, one.device);
  else live.terminal(one.where);
}

function switches() {
  const total = h("button", { type: "button", id: "since", "aria-pressed": String(live.since) }, t("ui.since"));
  total.addEventListener("click", () => {
    live.since = !live.since;
    live.base = live.last;
    total.setAttribute("aria-pressed", String(live.since));
    paint();
  });
  return h("div.buttons", {}, total);
}

async function tick() {
  try {
    const now = await get("api/live");
    const before = live.last;
    live.last = now;
    live.before = before;
    live.base ??= now;
    await refreshCaptures();
    paint();
  } catch (error) {
    $("nodes")?.replaceChildren(h("p.verdict", {}, error.message));
  }
}

function short(n) {
  if (n >= 1e6) return `${(n / 1e6).toPrecision(2)}M`;
  return n >= 1000 ? `${(n / 1000).toPrecision(2)}k` : String(Math.round(n));
}

// Packets a second both ways, or packets in all.
function flow(key) {
  const now = live.last?.links[key], was = live.before?.links[key], first = live.base?.links[key];
  if (!now) return null;
  const count = (one) => (one ? one.rx_packets + one.tx_packets : 0);
  const seconds = live.before ? live.last.time - live.before.time : 0;
  return { rate: seconds && was ? Math.max(0, count(now) - count(was)) / seconds : 0, total: count(now) - (live.since ? count(first) : 0) };
}

function paint() {
  if (!live.last || !mapElement()) return;
  const marks = [];
  const captured = capturedLinks();
  for (const wire of picture().wires) {
    if (!wire.link || !wire.path) continue;
    const key = `${wire.link.where}/${wire.link.device}`, moved = flow(key);
    if (!moved) continue;
    const width = (moved.rate > 0 ? 2.5 + Math.min(7, Math.log10(1 + moved.rate) * 2) : 2) * wire.scale;
    wire.path.style.setProperty("stroke-width", width);
    wire.path.classList.toggle("busy", moved.rate > 0);
    if (wire.cable || captured.has(key)) marks.push(mark(wire, moved, captured.get(key)));
  }
  $("live").replaceChildren(...marks);
  paintNodes();
}

function mark(wire, moved, packets) {
  const length = wire.path.getTotalLength(), middle = wire.path.getPointAtLength(length / 2);
  const text = moved.rate > 0 ? `${short(moved.rate)}/s` : moved.total ? short(moved.total) : "";
  const items = [s("text", { class: moved.rate > 0 ? "rate now" : "rate", x: middle.x, y: middle.y + 13 * wire.scale + 2, "text-anchor": "middle", "font-size": wire.scale < 1 ? 8 : 11 }, text)];
  if (packets !== undefined) {
    const label = `● ${short(packets)}`, width = 14 + label.length * 6.6;
    items.push(s("rect.pill", { x: middle.x - width / 2, y: middle.y - 9, width, height: 18, rx: 9 }), s("text.pilltext", { x: middle.x, y: middle.y + 4, "text-anchor": "middle" }, label));
  }
  return s("g", {}, ...items);
}

function paintNodes() {
  const cards = Object.entries(live.last.nodes).map(([name, counters]) => h("div", {}, h("h3", {}, name), counters ? table(name, counters) : h("p.note", {}, t("ui.nocounters"))));
  $("nodes").replaceChildren(...cards);
}

function table(name, counters) {
  const was = live.since ? live.base?.nodes[name] : null;
  const less = (value, path) => value - (path(was ?? {}) ?? 0);
  const rows = [];
  for (const way of ["encap", "decap"]) {
    rows.push(row(t(`ui.${way}`), less(counters[way].packets, (one) => one[way]?.packets), ""));
    for (const [reason, n] of Object.entries(counters[way].drops)) {
      const count = less(n, (one) => one[way]?.drops?.[reason]);
      if (count > 0) rows.push(row(`✗ ${reason}`, count, "bad"));
    }
  }
  for (const [event, n] of Object.entries(counters.events ?? {})) if (less(n, (one) => one.events?.[event]) > 0) rows.push(row(event, less(n, (one) => one.events?.[event]), ""));
  return h("table.counters", {}, ...rows);
}

function row(name, count, kind) {
  return h("tr", { class: kind }, h("td", {}, name), h("td.n", {}, number(count)));
}
