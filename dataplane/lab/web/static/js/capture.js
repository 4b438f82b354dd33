// Captures: what passes a wire, as rows of coloured layers that open as bytes.

import { $, h } from "./dom.js";
import { get, post, remove } from "./api.js";
import { byteGrid, stackBar } from "./panels.js";
import { compare, layersOf } from "./packet.js";
import { t } from "./words.js";

const state = { running: new Map(), chosen: null, box: null, message: () => {} };
const KEPT = 500;

export function captureFrame(box, handlers) {
  state.box = box;
  Object.assign(state, handlers);
  paint();
}

// `where/device` -> packets seen.
export function capturedLinks() {
  return new Map([...state.running.values()].map((one) => [`${one.where}/${one.device}`, one.packets]));
}

export async function startCapture(where, device) {
  const there = [...state.running.values()].find((one) => one.where === where && one.device === device);
  try {
    if (there) {
      if (state.chosen === there.id) await stopCapture(there.id);
      else state.chosen = there.id;
    } else {
      const started = await post("api/captures", { where, device });
      state.running.set(started.id, { ...started, list: [] });
      state.chosen = started.id;
    }
  } catch (error) {
    state.message(error.message);
  }
  paint();
}

async function stopCapture(id) {
  state.running.delete(id);
  state.chosen = state.running.keys().next().value ?? null;
  await remove(`api/captures/${id}`);
  paint();
}

export async function refreshCaptures() {
  const { captures } = await get("api/captures");
  const ids = captures.map((one) => one.id);
  for (const id of [...state.running.keys()]) if (!ids.includes(id)) state.running.delete(id);
  for (const one of captures) state.running.set(one.id, { list: [], ...state.running.get(one.id), ...one });
  if (!state.running.has(state.chosen)) state.chosen = ids[0] ?? null;
  const mine = state.running.get(state.chosen);
  if (!mine || mine.packets === mine.shown) return;
  const news = await get(`api/captures/${mine.id}?after=${mine.list.at(-1)?.number ?? 0}`);
  mine.list = [...mine.list, ...news.list].slice(-KEPT);
  mine.shown = mine.list.at(-1)?.number ?? 0;
  paint();
}

function paint() {
  if (!state.box) return;
  const mine = state.running.get(state.chosen);
  const tabs = [...state.running.values()].map((one) => h("button", { type: "button", "aria-pressed": String(one.id === state.chosen), onclick: () => { state.chosen = one.id; one.shown = -1; paint(); } }, `${one.where} ${one.device} ● ${one.packets}`));
  const head = h("div.captures", {}, ...tabs, mine ? h("a.buttonlike", { href: `api/captures/${mine.id}.pcapng`, download: "" }, t("ui.savepcap")) : null, mine ? h("button", { type: "button", onclick: () => stopCapture(mine.id) }, t("ui.stop")) : null);
  if (!mine) return state.box.replaceChildren(h("h3", {}, t("ui.captures")), h("p", {}, t("ui.captureshint")));
  const open = state.box.querySelector("details[open]")?.dataset.number;
  const list = h("div.packets", {}, ...mine.list.slice(-200).reverse().map((one) => packetRow(one, mine, String(one.number) === open)));
  return state.box.replaceChildren(head, list);
}

function packetRow(one, mine, open) {
  const layers = layersOf(one.packet), first = Number(mine.list[0].time_ns.slice(-15));
  const seconds = (Number(one.time_ns.slice(-15)) - first) / 1e9;
  const details = h("details", { open, dataset: { number: one.number } }, h("summary", {}, h("span.n", {}, String(one.number)), h("span.n", {}, seconds.toFixed(4)), h("span", {}, one.dir === "out" ? "→" : "←"), stackBar(layers, compare(null, layers)), h("span.facts", {}, facts(layers))));
  const fill = () => details.open && details.childElementCount === 1 && details.append(byteGrid(layers, compare(null, layers), layers.some((layer) => layer.kind === "ip6") ? 24 : 20).element);
  details.addEventListener("toggle", fill);
  fill();
  return details;
}

// The innermost addresses and what is said between them.
function facts(layers) {
  const text = (layer, key) => layer.cells.flatMap((cell) => cell.fields).find((field) => field.key === key)?.text;
  const ip = [...layers].reverse().find((layer) => ["ip", "ip6"].includes(layer.kind) && !layer.quoted);
  const last = [...layers].reverse().find((layer) => ["icmp", "tcp", "udp", "arp"].includes(layer.kind) && !layer.quoted);
  const parts = ip ? [`${text(ip, "src")} → ${text(ip, "dst")}`, `TTL ${text(ip, "ttl")}`] : [];
  if (last?.kind === "icmp") parts.push(text(last, "type"));
  if (last?.kind === "tcp") parts.push(text(last, "flags"));
  if (last?.kind === "udp") parts.push(`${text(last, "sport")} → ${text(last, "dport")}`);
  if (last?.kind === "arp") parts.push(`${text(last, "operation")} ${text(last, "target")}`);
  return parts.join(" · ");
}
