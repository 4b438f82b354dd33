// The sums behind a step, worked out here from the bytes and compared with them: a wrong recording, or a wrong formula,
// shows itself.

import { h } from "./dom.js";
import { findCell, layersOf, numberOf, toBytes } from "./packet.js";
import { origin, t } from "./words.js";

const invert = (word) => ~word & 0xffff;
const hex = (n, digits = 4) => "0x" + n.toString(16).padStart(digits, "0");

// Fold the carries of a ones' complement sum back in (RFC 1071): the word, and the steps as text.
function fold(total) {
  const steps = [];
  while (total > 0xffff) {
    const next = (total & 0xffff) + Math.floor(total / 0x10000);
    steps.push(`${hex(total & 0xffff)} + ${Math.floor(total / 0x10000)} = ${hex(next)}`);
    total = next;
  }
  return [total, steps];
}

// A checksum moved along with one word (RFC 1624, equation 3).
export function moved(sum, from, to) {
  const total = invert(sum) + invert(from) + to;
  const [word, steps] = fold(total);
  return { total, steps, result: invert(word) };
}

// The checksum of a header, whose own field at `skip` counts as zero (RFC 1071).
export function whole(bytes, skip) {
  const words = [];
  for (let i = 0; i < bytes.length; i += 2) if (i !== skip) words.push(bytes[i] * 256 + (bytes[i + 1] ?? 0));
  const total = words.reduce((a, b) => a + b, 0);
  const [word, steps] = fold(total);
  return { words, total, steps, result: invert(word) };
}

function verdict(result, recorded) {
  const same = result === recorded;
  return h(same ? "span.good" : "span.wrong", {}, same ? `✓ ${t("ui.same")}` : `✗ ${t("ui.differ")}: ${hex(recorded)}`);
}

function ttlLine(was, now) {
  const [before, after] = [numberOf(was), numberOf(now)];
  return after === before - 1 ? [h("b", {}, `TTL  ${before} − 1 = ${after}`), "\n"] : [h("b", {}, `TTL  ${before} → ${after}`), "\n"];
}

function incremental(layer, changes) {
  const ttl = findCell(layer, "ttl"), sum = findCell(layer, "sum"), protocol = numberOf(findCell(layer, "proto"));
  const from = numberOf(changes.get(ttl)) * 256 + protocol, to = numberOf(ttl) * 256 + protocol, old = numberOf(changes.get(sum));
  const { total, steps, result } = moved(old, from, to);
  const lines = ["~(~old + ~word + word′)", `~old   ~${hex(old)} =  ${hex(invert(old))}`, `~word  ~${hex(from)} =  ${hex(invert(from))}`, `word′            ${hex(to)}`, `sum             ${hex(total, 5)}`, ...steps.map((step) => `fold   ${step}`)];
  return ["RFC 1624", [...ttlLine(changes.get(ttl), ttl), lines.join("\n"), "\n~                ", h("b", {}, hex(result)), "\n", verdict(result, numberOf(sum))]];
}

function complete(layer, packet, changes) {
  const bytes = toBytes(packet.hex).subarray(layer.off, layer.off + layer.len);
  const sum = findCell(layer, "sum"), ttl = findCell(layer, "ttl"), was = changes.get(ttl);
  const { words, total, steps, result } = whole(bytes, sum.rel);
  const rows = [];
  for (let i = 0; i < words.length; i += 5) rows.push((i ? "+ " : "  ") + words.slice(i, i + 5).map((word) => hex(word).slice(2)).join(" + "));
  const text = [...rows, `sum   ${hex(total, 5)}`, ...steps.map((step) => `fold  ${step}`)].join("\n");
  return ["RFC 1071", [...(was ? ttlLine(was, ttl) : []), text, "\n~     ", h("b", {}, hex(result)), "\n", verdict(result, numberOf(sum))]];
}

// IPv6 has no checksum to move: the hop limit alone changes.
function hopLimit(layer, changes) {
  const ttl = findCell(layer, "ttl");
  return ["RFC 8200 3", [...ttlLine(changes.get(ttl), ttl), t("ui.nochecksum")]];
}

function sumOf(layer, packet, difference) {
  const changed = (key) => findCell(layer, key) && difference.was.has(findCell(layer, key));
  if (layer.quoted || (layer.off + layer.len) * 2 > (packet.hex ?? "").length) return null;
  if (layer.kind === "ip6") return changed("ttl") ? hopLimit(layer, difference.was) : null;
  if (layer.kind !== "ip") return null;
  const others = ["len", "id", "src", "dst", "tos"].some(changed);
  if (changed("ttl") && changed("sum") && !others) return incremental(layer, difference.was);
  if (difference.on.includes(layer) || changed("sum")) return complete(layer, packet, difference.was);
  return null;
}

// The arithmetic of a step as an element, or null where nothing was calculated.
export function arithmetic(packet, difference) {
  const found = layersOf(packet).map((layer) => sumOf(layer, packet, difference)).filter(Boolean);
  if (!found.length) return null;
  const [source, content] = found[0];
  return h("div.sums", {}, h("h3", {}, `${t("ui.arithmetic")}, ${source}`, origin("recomputed")), h("pre.math", { tabindex: 0 }, ...content));
}
