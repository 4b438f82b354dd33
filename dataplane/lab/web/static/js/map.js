// The picture of the lab as SVG: drawn once for a layout, then painted for each step or each look at the counters.

import { s } from "./dom.js";
import { layout } from "./layout.js";
import { layerShort, layersOf, numberOf, findCell } from "./packet.js";
import { pointsBetween, stationKey } from "./route.js";
import { t } from "./words.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const map = { picture: null, svg: null, box: null, frame: 0, visit: () => {}, link: () => {}, node: () => {} };

export function picture() {
  return map.picture;
}

export function onMap(handlers) {
  Object.assign(map, handlers);
}

// Draw `lab` into `box`.
export function drawMap(box, lab, focus) {
  const plan = layout(lab, focus);
  map.picture = plan;
  map.box = box;
  const svg = s("svg", { id: "map", role: "group", "aria-label": t("ui.topology", { nodes: lab.nodes.length, pods: lab.pods?.length ?? 0 }) });
  svg.append(...plan.frames.map(frame), s("g", { id: "wires" }, plan.wires.map(wire)), s("g", { id: "trails" }), ...plan.texts.map(label), ...[...plan.stations.values()].map(station), s("g", { id: "live" }), s("g", { id: "badge", "aria-hidden": "true" }));
  map.svg = svg;
  box.replaceChildren(svg);
  for (const name of svg.querySelectorAll("text[data-fit]")) squeeze(name);
}

// Show the whole lab, or only the large nodes and what is between them.
export function zoom(whole) {
  const { picture: plan, svg } = map;
  const height = whole ? plan.height : Math.min(plan.first, plan.height);
  svg.setAttribute("viewBox", `0 0 ${plan.width} ${height}`);
  svg.classList.toggle("whole", whole && plan.height > plan.first);
  return plan.height > plan.first;
}

// Text that is wider than its place is drawn narrower; what is far too wide loses its end, and keeps it in a tooltip.
function squeeze(text) {
  const room = Number(text.dataset.fit);
  if (text.getComputedTextLength() <= room) return;
  const whole = text.textContent;
  let shown = whole;
  while (shown.length > 4 && text.getComputedTextLength() > room * 1.12) {
    shown = shown.slice(0, -1);
    text.textContent = shown + "…";
  }
  if (text.getComputedTextLength() > room) {
    text.setAttribute("textLength", room);
    text.setAttribute("lengthAdjust", "spacingAndGlyphs");
  }
  if (text.textContent !== whole) text.append(s("title", {}, whole));
}

function frame(one) {
  if (one.kind === "tie") return s("path.wire.ghost", { d: `M${one.x} ${one.y}h${one.w}` });
  const rect = s("rect", { class: `frame ${one.kind}`, x: one.x, y: one.y, width: one.w, height: one.h, rx: one.r, "data-name": one.node ?? one.pod ?? one.host ?? one.segment ?? null });
  if (one.node) rect.addEventListener("click", () => map.node(one.node));
  return rect;
}

function label(one) {
  const { x, y, scale = 1, kind, anchor } = one;
  const content = one.word ? t(one.text, one.args) : one.text;
  const size = scale < 1 ? { transform: `translate(${x} ${y}) scale(${one.big ? 0.8 : scale})` } : { x, y };
  const turn = one.turn ? { transform: `translate(${x} ${y + (one.shift ?? 0) * scale}) rotate(${one.turn}) scale(${scale})`, x: null, y: null } : size;
  return s("text", { class: kind, ...turn, dy: one.turn ? 4 : null, "text-anchor": anchor, "data-fit": one.fit ?? null }, content ?? "");
}

function points(one) {
  const from = map.picture.stations.get(one.a), to = map.picture.stations.get(one.b);
  return from && to ? [[from.x, from.y], ...one.via, [to.x, to.y]] : [];
}

function wire(one) {
  const list = points(one);
  if (!list.length) return null;
  const d = "M" + list.map((point) => point.join(" ")).join("L");
  const path = s("path", { class: `wire${one.ghost ? " ghost" : ""}${one.hidden ? " inner" : ""}`, d, "stroke-width": one.scale < 1 ? 1.2 : null });
  one.path = path;
  if (!one.link) return path;
  const name = `${one.link.where}, ${one.link.device}`;
  const hit = s("path.hit", { d, tabindex: -1, role: "button", "aria-label": `${t("ui.wire")} ${name}`, "data-link": `${one.link.where}/${one.link.device}` }, s("title", {}, name));
  hit.addEventListener("click", () => map.link(one.link));
  hit.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    map.link(one.link);
  });
  return s("g", {}, path, hit);
}

export function stationName(one) {
  const place = t(`place.${one.place}`);
  return one.device && !["engine", "udp", "socket"].includes(one.place) ? `${one.where}, ${place} ${one.device}` : `${one.where}, ${place}`;
}

function shape(one) {
  const { x, y, w, h: high } = one;
  if (one.shape === "circle") return s("circle.b", { cx: x, cy: y, r: w / 2 });
  if (one.shape === "diamond") return s("path.b", { d: `M${x} ${y - high / 2}L${x + w / 2} ${y}L${x} ${y + high / 2}L${x - w / 2} ${y}Z` });
  return s("rect.b", { x: x - w / 2, y: y - high / 2, width: w, height: high, rx: (one.shape === "box" ? 6 : 3) * one.scale });
}

function station(one) {
  const group = s("g.station", { "data-key": one.key, tabindex: -1, role: "button" }, shape(one));
  const write = (text, dx, dy, kind, anchor = "middle") => group.append(s("text", { class: kind, "text-anchor": anchor, transform: `translate(${one.x + dx} ${one.y + dy * one.scale}) scale(${one.scale})` }, one.words && text.includes(".") ? t(text, one.args) : text));
  if (one.label) write(one.label, 0, one.sub ? -2 : 4, "t2 strong");
  if (one.sub) write(one.sub, 0, 13, "t3 soft");
  if (one.below) write(one.below, (one.belowShift ?? 0) * (one.mirror ? -1 : 1), one.h / 2 / one.scale + 13, "t3 soft", one.belowShift ? (one.mirror ? "start" : "end") : "middle");
  if (one.above) write(one.above, 0, -one.h / 2 - 6, "t3 soft");
  group.append(s("title", {}, stationName(one)));
  group.addEventListener("click", () => map.visit(one));
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    map.visit(one);
  });
  return group;
}

// ---- a step of a walk

export function isBad(step) {
  return Boolean(step.verdict) && !["arrived", "answered", "FORWARDED", "forwarded"].includes(step.verdict);
}

// Mark where the packet is and has been. `from`: the index that the reader comes from, for the movement; or null.
export function paintStep(walk, at, from) {
  const steps = walk.steps, step = steps[at];
  const keys = steps.map((one) => stationKey(map.picture, one.at));
  const seen = new Set(keys.slice(0, at + 1)), met = new Set(keys);
  for (const group of map.svg.querySelectorAll(".station")) {
    const key = group.dataset.key, here = key === keys[at];
    group.setAttribute("class", ["station", met.has(key) ? "" : "off", seen.has(key) ? "seen" : "", here ? "here" : "", here && isBad(step) ? "dead" : ""].join(" ").trim());
    group.setAttribute("tabindex", here ? 0 : -1);
    if (here) group.setAttribute("aria-current", "step");
    else group.removeAttribute("aria-current");
    group.setAttribute("aria-label", stationName(map.picture.stations.get(key)));
  }
  paintTrails(steps, keys, at);
  move(steps, keys, at, from);
}

function paintTrails(steps, keys, at) {
  const runs = new Map();
  steps.slice(0, at + 1).forEach((step, i) => runs.set(step.leg, [...(runs.get(step.leg) ?? []), i]));
  const trails = [...runs].map(([leg, list]) => {
    const d = list.slice(1).map((i, k) => pointsBetween(map.picture, keys[list[k]], keys[i])).flat();
    return d.length ? s("path", { class: `trail${leg === steps[at].leg ? "" : " old"}`, d: "M" + d.map((point) => point.join(" ")).join("L") }) : null;
  });
  map.svg.querySelector("#trails").replaceChildren(...trails.filter(Boolean));
}

function move(steps, keys, at, from) {
  cancelAnimationFrame(map.frame);
  const target = map.picture.stations.get(keys[at]);
  if (!target) return;
  const near = from != null && Math.abs(from - at) === 1 && steps[from].leg === steps[at].leg;
  if (!near || calm.matches) return badge(target.x, target.y, steps[at], target);
  const list = pointsBetween(map.picture, keys[from], keys[at]);
  const lengths = list.slice(1).map((point, i) => Math.hypot(point[0] - list[i][0], point[1] - list[i][1]));
  const total = lengths.reduce((a, b) => a + b, 0);
  const time = 240 + Math.min(total * 1.5, 360), start = performance.now();
  const frameAt = (now) => {
    const part = Math.min(1, Math.max(0, (now - start) / time));
    if (part >= 1) return badge(target.x, target.y, steps[at], target);
    let along = total * (part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2), i = 0;
    while (i < lengths.length - 1 && along > lengths[i]) along -= lengths[i++];
    const share = lengths[i] ? along / lengths[i] : 0, [a, b] = [list[i], list[i + 1] ?? list[i]];
    badge(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, part < 0.75 ? steps[from] : steps[at], null);
    map.frame = requestAnimationFrame(frameAt);
  };
  map.frame = requestAnimationFrame(frameAt);
}

// The packet itself: a sign with its layers and its TTL, on a pin.
function badge(x, y, step, target) {
  const group = map.svg.querySelector("#badge");
  const layers = layersOf(step.packet).filter((layer) => !(layer.quoted && !["ip", "ip6"].includes(layer.kind)));
  const parts = layers.map((layer) => ({ tone: layer.tone, text: layerShort(layer) }));
  if (step.segments?.length) parts.push({ tone: "more", text: `×${step.segments.length}` });
  for (const part of parts) part.w = 10 + part.text.length * 7.4;
  const inner = [...layers].reverse().find((layer) => ["ip", "ip6"].includes(layer.kind) && !layer.quoted);
  const ttl = inner && findCell(inner, "ttl");
  const width = parts.reduce((sum, part) => sum + part.w, 0) + (ttl ? 54 : 0) + 6, high = 24;
  // Above the station; above the whole box of a segment; below an interface, whose socket is right above it.
  const under = target?.place === "underlay" && target.scale === 1;
  const edge = (target ? target.h / 2 : 0) * (under ? -1 : 1);
  const top = under ? y - edge + 9 : Math.max(3, Math.min(target?.lift ?? y, y - edge) - (target && target.h > 30 ? 33 : 36));
  const left = Math.max(8, Math.min(map.picture.width - width - 8, x - width / 2));
  const items = [s("path.pin", { d: `M${x} ${under ? top : top + high}V${y - edge}` }), s("circle.pinfoot", { cx: x, cy: y - edge, r: 4.5 }), s("rect.plate", { x: left, y: top, width, height: high, rx: 6 })];
  let cx = left + 3;
  for (const part of parts) {
    items.push(s("rect", { class: `part tone-${part.tone}`, x: cx + 0.8, y: top + 3, width: part.w - 1.6, height: high - 6, rx: 3 }), s("text", { x: cx + part.w / 2, y: top + 16.4 }, part.text));
    cx += part.w;
  }
  if (ttl) items.push(s("rect.ttl", { x: cx + 1, y: top + 3, width: 52, height: high - 6, rx: 3 }), s("text.ttltext", { x: cx + 27, y: top + 16.4 }, `TTL ${numberOf(ttl)}`));
  if (target && isBad(step)) items.push(...["M-12-12L12 12", "M-12 12L12-12"].map((d) => s("path.cross", { d, transform: `translate(${x + target.w / 2} ${y})` })));
  group.replaceChildren(...items);
}

export function clearStep() {
  cancelAnimationFrame(map.frame);
  map.svg.querySelector("#badge").replaceChildren();
  map.svg.querySelector("#trails").replaceChildren();
  for (const group of map.svg.querySelectorAll(".station")) group.setAttribute("class", "station");
}

export function mapElement() {
  return map.svg;
}

