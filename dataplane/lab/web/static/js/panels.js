// The three panels of a step: what was decided and why; the bytes; what else there is to see.

import { $, h, rich } from "./dom.js";
import { arithmetic } from "./arithmetic.js";
import { isBad } from "./map.js";
import { cellText, compare, fieldWords, hexes, layerName, layerShort, layersOf, shortName } from "./packet.js";
import { checkText, has, number, origin, sentence, t, walkWords } from "./words.js";

const panels = { picked: null, run: null, compare: null };

// `run(where, command)`: types a command into a terminal; null where there are none.
export function onRun(run) {
  panels.run = run;
}

// `compare(packet)`: sends a packet through all three engines; null where there is no lab.
export function onCompare(compare_) {
  panels.compare = compare_;
}

// ---- left: the decision

export function paintSay(walk, at, place) {
  const step = walk.steps[at], words = sentence(step.say, step.args);
  const time = step.t_us != null ? t("ui.elapsed", { t: step.t_us.toFixed(0) }) : t("ui.between");
  const content = [h("p.crumb", {}, h("b", {}, place), ` · ${time}`), h("h2", {}, rich(words.title || step.say)), h("p.lead", {}, rich(words.text))];
  if (at === 0 && walk.ask) content.push(h("p.asked", {}, h("code", {}, `$ ${walk.ask}`)));
  if (at === walk.steps.length - 1) content.push(h("p.who", {}, outcomeText(walk)));
  if (step.verdict) content.push(h(isBad(step) ? "p.verdict" : "p.verdict.fine", {}, isBad(step) ? `✗ ${t("ui.dropped")}: ${(step.say.startsWith("died.") ? "" : walkWords(`died.${step.verdict}`, { ...step.args, where: step.at.where })) || step.verdict}` : `✓ ${t(`ui.${step.verdict}`)}`));
  content.push(h("p.who", {}, h("span.soft", {}, `${t("ui.who")}: `), h("b", {}, has(`by.${step.by}`) ? t(`by.${step.by}`) : step.by)));
  if (step.checks?.length) content.push(checksOf(step));
  if (panels.compare && step.at.place === "engine" && earlierBytes(walk, at)) content.push(h("button.allthree", { type: "button", onclick: () => panels.compare(earlierBytes(walk, at)) }, t("ui.allthree")));
  // What is asked of the underlay is about a packet in a packet.
  const fits = !/^(underlay\.out|wire\.)/.test(step.say) || layersOf(step.packet).some((layer) => layer.outer);
  if (words.ask && fits) content.push(h("details.ask", {}, h("summary", {}, rich(words.ask)), h("p", {}, rich(words.answer))));
  $("say").replaceChildren(...content);
  const live = `${t("ui.step", { n: at + 1, total: walk.steps.length })}. ${place}. ${words.title}. ${words.text}`;
  $("live-region").textContent = live.replaceAll("`", "");
}

// What the engine of a step has got, as all three may get it: the packet out of the TUN, or a datagram's payload.
function earlierBytes(walk, at) {
  const earlier = walk.steps[at - 1], { where } = walk.steps[at].at;
  if (!earlier || earlier.packet.gso) return null;
  if (earlier.at.place === "tunnel") return { node: where, way: "encap", hex: earlier.packet.hex, sender: "" };
  const layers = layersOf(earlier.packet), udp = layers.findIndex((layer) => layer.outer && layer.kind === "udp");
  const payload = layers[udp + 1], source = layers[udp - 1]?.cells.find((cell) => cell.key === "src");
  if (!payload || !source) return null;
  return { node: where, way: "decap", hex: earlier.packet.hex.slice(2 * payload.off), sender: source.fields[0].text };
}

export function outcomeText(walk) {
  const { kind, reason, at, args, rtt_us: rtt } = walk.outcome;
  const said = walkWords(`outcome.${kind}`, { rtt_us: rtt, where: at?.where, place: at && t(`place.${at.place}`) }) || String(kind ?? "");
  return reason ? `${said} ${walkWords(reason, args)}` : said;
}

function checksOf(step) {
  const item = (check) => {
    const [heading, details] = checkText(check);
    return h(check.ok ? "li" : "li.no", {}, h("span.mark", {}, check.ok ? "✓" : "✗"), h("span", {}, h("b", {}, heading), " ", h("small", {}, details), compared(check)));
  };
  return h("div", {}, h("h3", {}, t("ui.checks"), origin(step.checks_origin ?? "recomputed")), h("ol.checks", {}, ...step.checks.map(item)));
}

// The lookup: what was compared, the longest prefixes first.
function compared(check) {
  const list = check.args?.compared;
  if (!Array.isArray(list) || list.length < 2) return null;
  return h("ul.compared", {}, ...list.slice(0, 6).map((one) => h(one.hit ? "li.hit" : "li", { title: (one.prefixes ?? []).join(", ") }, h("code", {}, one.masked ?? ""), one.hit ? " ✓" : " –")));
}

// ---- middle: the bytes

export function paintPacket(walk, at, earlier) {
  const step = walk.steps[at], layers = layersOf(step.packet), difference = compare(earlier && layersOf(earlier.packet), layers);
  const wide = walk.steps.some((one) => layersOf(one.packet).some((layer) => layer.kind === "ip6"));
  const notes = [];
  if (!difference.first && !difference.off.length && !difference.on.length && !difference.was.size) notes.push(t("ui.nothing"));
  if (step.segments?.length) notes.push(t("ui.firstof", { n: step.segments.length }));
  if (step.packet.gso) notes.push(t("ui.gso", { n: step.packet.gso.size ?? step.packet.gso }));
  if (step.packet.checksum_promised) notes.push(t("ui.promised"));
  const grid = byteGrid(layers, difference, wide ? 24 : 20);
  const inspect = h("div.inspect", { id: "inspect" });
  $("packet").replaceChildren(
    h("h3", {}, t("ui.bytes"), h("b.ink", {}, t("ui.total", { n: number(step.packet.len) })), origin(step.packet.origin)),
    stackBar(layers, difference),
    ...(notes.length ? [h("p.note", {}, notes.join(" · "))] : []),
    grid.element,
    h("div.below", {}, inspect, arithmetic(step.packet, difference) ?? h("div.none")),
  );
  chooseCell(grid.cells, step, difference, inspect);
}

export function stackBar(layers, difference) {
  const item = (layer, state) => h(`div.tone-${layer.tone}`, { class: `tone-${layer.tone} ${state}`, style: { "flex-grow": String(Math.round(12 + 5 * Math.sqrt(layer.len))) } }, layerShort(layer), h("span", {}, ` ${layer.len}`));
  return h("div.stack", { "aria-hidden": "true" }, ...difference.off.map((layer) => item(layer, "gone")), ...layers.map((layer) => item(layer, difference.on.includes(layer) ? "new" : "")));
}

// Rows of named boxes, `columns` bytes to a row: a header's fields never break, and a layer begins a row.
export function byteGrid(layers, difference, columns) {
  const cells = [], rows = [];
  for (const layer of difference.off) rows.push(h(`div.row.off.tone-${layer.tone}`, {}, h("span.name", {}, layerName(layer)), h("span.strip", {}, `− ${t("ui.total", { n: layer.len })} ${t("ui.off")}`)));
  for (const layer of layers) {
    const size = h("small", {}, t("ui.total", { n: number(layer.len) }));
    if (layer.kind === "more") {
      rows.push(h("div.row.tone-more", {}, h("span.name", {}, layerName(layer)), h("span.strip", {}, t("ui.more", { bytes: number(layer.len) }))));
      continue;
    }
    rows.push(h(`div.row.tone-${layer.tone}`, { class: `row tone-${layer.tone}${difference.on.includes(layer) ? " on" : ""}` }, h("span.name", {}, layerName(layer), size), h("div.cells", {}, ...layerCells(layer, difference, columns, cells))));
  }
  return { cells, element: h("div.grid", { role: "group", "aria-label": t("ui.bytes"), style: { "--columns": String(columns) } }, ...rows) };
}

function layerCells(layer, difference, columns, cells) {
  let column = 0;
  return layer.cells.map((cell) => {
    const n = Math.min(columns, cell.data ? columns : cell.len), was = difference.was.get(cell), number_ = cells.length;
    if (column + n > columns) column = 0;
    const start = column + 1;
    column = (column + n) % columns;
    const shown = cell.bytes.subarray(0, cell.data ? columns : Math.max(columns, 32));
    const cut = cell.len > shown.length ? " …" : "";
    const bytes = h("u", {}, hexes(shown) + cut);
    const button = h("button", { type: "button", class: `cell${was ? " changed" : ""}`, tabindex: -1, dataset: { i: number_ }, style: { "grid-column": `${start} / span ${n}` }, "aria-label": `${fullName(cell)}: ${cellText(cell)}${was ? `, ${t("ui.was")} ${cellText(was)}` : ""}` }, h("i", {}, shortName(cell)), bytes, was ? h("s", {}, hexes(was.bytes)) : null);
    cells.push({ cell, was, button });
    return button;
  });
}

function fullName(cell) {
  return cell.fields.map((field) => fieldWords(cell.layer, field)[1]).join(", ");
}

// The field that whoever decided looked at, where nothing has changed.
const LOOKED_AT = { bridge: "dst", arp: "dst", netfilter: "src", route: "dst", wire: "dst", socket: "dport" };

function firstCell(cells, step, difference) {
  const at = (test) => cells.findIndex(({ cell }) => test(cell));
  const picked = panels.picked;
  let found = picked ? at((cell) => cell.key === picked.key && cell.layer.id === picked.layer) : -1;
  if (found < 0) found = at((cell) => difference.was.has(cell) && /ttl/.test(cell.key));
  if (found < 0) found = at((cell) => difference.was.has(cell));
  if (found < 0 && difference.on.length) found = at((cell) => cell.layer === difference.on[0] && /^(dst|dport|type)$/.test(cell.key));
  if (found < 0) found = at((cell) => !cell.layer.quoted && cell.key === (isBad(step) ? "ttl" : LOOKED_AT[step.by]));
  return found;
}

function chooseCell(cells, step, difference, box) {
  let chosen = firstCell(cells, step, difference);
  const show = (i) => {
    cells.forEach(({ button }, k) => button.classList.toggle("chosen", k === i));
    box.className = i < 0 ? "inspect" : `inspect tone-${cells[i].cell.layer.tone}`;
    box.replaceChildren(...(i < 0 ? [h("span", {}, t("ui.pick"))] : inspected(cells[i])));
  };
  const pick = (i) => {
    chosen = i;
    panels.picked = { key: cells[i].cell.key, layer: cells[i].cell.layer.id };
    show(i);
  };
  cells.forEach(({ button }, i) => {
    if (i === Math.max(0, chosen)) button.tabIndex = 0;
    button.addEventListener("mouseenter", () => show(i));
    button.addEventListener("mouseleave", () => show(chosen));
    button.addEventListener("click", () => pick(i));
    button.addEventListener("focus", () => pick(i));
    button.addEventListener("keydown", (event) => moveInGrid(event, cells, i));
  });
  show(chosen);
}

function moveInGrid(event, cells, i) {
  if (event.key === "Escape") {
    panels.picked = null;
    $("slider").focus();
    event.stopPropagation();
    return;
  }
  const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: cells.length - 1, ArrowUp: nextRow(cells, i, -1), ArrowDown: nextRow(cells, i, 1) }[event.key];
  if (to == null) return;
  event.preventDefault();
  event.stopPropagation();
  const next = Math.max(0, Math.min(cells.length - 1, to));
  cells[i].button.tabIndex = -1;
  cells[next].button.tabIndex = 0;
  cells[next].button.focus();
}

// The first cell of the layer above or below.
function nextRow(cells, i, by) {
  const layer = cells[i].cell.layer;
  let k = i;
  while (cells[k] && cells[k].cell.layer === layer) k += by;
  return cells[k] ? cells.findIndex(({ cell }) => cell.layer === cells[k].cell.layer) : i;
}

function inspected({ cell, was }) {
  const single = cell.fields.length === 1;
  const at = t("ui.at", { a: cell.rel, layer: layerName(cell.layer), b: cell.off });
  const value = was ? [h("s", {}, cellText(was)), " → ", h("b.was", {}, cellText(cell))] : [cellText(cell)];
  const [, name, meaning, source] = fieldWords(cell.layer, cell.fields[0]);
  if (single) return [h("span", {}, h("b", {}, `${layerName(cell.layer)}: ${name}`), " ", h("span.value", {}, value)), h("span", {}, meaning), h("small", {}, [source, at].filter(Boolean).join(" · "))];
  const parts = cell.fields.map((field) => {
    const words = fieldWords(cell.layer, field);
    return h("li", { title: words[2] }, h("b", {}, words[1]), ` ${t("ui.bits", { n: field.length })}: `, h("span.value", {}, field.text));
  });
  return [h("b", {}, layerName(cell.layer)), h("ul.bits", {}, ...parts), h("small", {}, at)];
}

// ---- right: commands, counters, pieces

export function paintFacts(recording, step) {
  const content = [];
  if (step.segments?.length) content.push(segmentTable(step));
  if (step.counters?.length) content.push(h("h3", {}, t("ui.counters"), origin(step.counters[0].origin)), h("table.counters", {}, ...step.counters.map((one) => h("tr", {}, h("td", {}, h("code", {}, one.name)), h("td.n", {}, `${one.before} → `, h("b", {}, String(one.after)))))));
  const seen = (step.see ?? []).map((i) => recording.see[i]).filter(Boolean);
  if (seen.length) content.push(h("h3", {}, t("ui.see")), ...seen.map(terminalCard));
  $("facts").replaceChildren(...content);
}

function segmentTable(step) {
  const rows = step.segments.map((one, i) => h("tr", {}, h("td.n", {}, String(i + 1)), h("td.n", {}, String(one.id ?? "")), h("td.n", {}, one.seq != null ? `+${one.seq - step.segments[0].seq}` : one.offset != null ? String(one.offset) : ""), h("td.n", {}, number(one.len))));
  return h("div", {}, h("h3", {}, t("ui.cut", { n: step.segments.length }), origin(step.segments_origin)), h("table.counters", {}, h("tr", {}, ...["#", "id", t("ui.offset"), t("ui.bytesword")].map((name) => h("th.n", {}, name))), ...rows));
}

function terminalCard(one) {
  const where = one.in ?? one.where ?? "";
  const run = panels.run ? h("button.run", { type: "button", title: t("ui.runhint"), onclick: () => panels.run(where, one.cmd) }, t("ui.run")) : null;
  const lines = String(one.out ?? "").replace(/\n$/, "").split("\n");
  return h("div.term", {}, h("div.head", {}, h("span.cmd", {}, h("span", { "aria-hidden": "true" }, `${where}$ `), one.cmd), run, origin(one.origin)), h("pre", { tabindex: 0, "aria-label": `${where}: ${one.cmd}` }, ...lines.map((line) => h("span", {}, line))));
}
