// A packet of a recording, made ready to be shown: layers of cells, and what has changed since the step before.
//
// The recording brings the fields, dissected once: [key, offset in bits, length in bits, text]. Here they become cells of
// whole bytes: fields that share a byte share a cell.

import { has, t } from "./words.js";

const KINDS = { Ethernet: "eth", ARP: "arp", IPv4: "ip", IPv6: "ip6", fragment: "frag", UDP: "udp", VXLAN: "vxlan", TCP: "tcp", ICMP: "icmp", ICMPv6: "icmp", "more datagrams": "more" };

// Names of the dissection -> the page's own, where they differ.
const NAMES = { to: "dst", from: "src", "hop limit": "ttl", checksum: "sum", protocol: "proto", "next header": "proto", length: "len", "payload length": "len", header: "hl", "fragment offset": "frag", "flow label": "flow", window: "win", urgent: "urg", options: "opt", bytes: "data" };
const PORTS = { from: "sport", to: "dport" };

export function hexes(bytes, gap = " ") {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(gap);
}

export function toBytes(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (two) => parseInt(two, 16));
}

function fieldName(kind, key) {
  return (["udp", "tcp"].includes(kind) && PORTS[key]) || NAMES[key] || key;
}

// The layers of a packet, from the outside in, each {kind, tone, id, name, off, len, cells, outer, quoted}.
export function layersOf(packet) {
  packet.shown ??= makeLayers(packet.layers ?? [], toBytes(packet.hex ?? ""));
  return packet.shown;
}

function makeLayers(raw, bytes) {
  return raw.map((layer) => {
    const kind = KINDS[layer.name] ?? "data", outer = layer.role === "outer", quoted = layer.role === "quoted";
    const ip = kind === "ip" || kind === "ip6";
    const made = { kind, name: layer.name, off: layer.offset, len: layer.length, outer, quoted, tone: ip ? (outer ? "oip" : "ip") : kind };
    made.id = `${quoted ? "q" : ""}${outer && ip ? "o" : ""}${layer.name === "ICMPv6" ? "icmp6" : kind}`;
    made.cells = cellsOf(made, layer, bytes);
    return made;
  });
}

function cellsOf(layer, raw, bytes) {
  if (layer.kind === "more") return [];
  const cells = [];
  let open = [];
  for (const [key, offset, length, text] of raw.fields ?? []) {
    open.push({ key: fieldName(layer.kind, key), raw: key, offset, length, text: String(text ?? "") });
    if ((offset + length) % 8 === 0) {
      cells.push(cell(layer, open, bytes));
      open = [];
    }
  }
  return cells;
}

function cell(layer, fields, bytes) {
  const rel = fields[0].offset >> 3, last = fields[fields.length - 1], end = (last.offset + last.length + 7) >> 3;
  const off = layer.off + rel;
  return { layer, fields, off, rel, len: end - rel, bytes: bytes.subarray(off, layer.off + end), key: fields.map((field) => field.key).join("+"), data: last.key === "data" };
}

// [short, name, meaning, source] of a field.
export function fieldWords(layer, field) {
  const kinds = layer.kind === "ip6" ? ["ip6", "ip"] : [layer.kind];
  for (const kind of kinds) if (has(`field.${kind}.${field.key}`)) return t(`field.${kind}.${field.key}`);
  return has(`field.${field.key}`) ? t(`field.${field.key}`) : [field.raw.replaceAll("_", " "), field.raw.replaceAll("_", " "), "", ""];
}

export function shortName(cell) {
  const joined = fieldWords(cell.layer, { key: cell.key, raw: "" })[0];
  if (cell.fields.length > 1 && joined) return joined;
  const shorts = cell.fields.filter((field) => !field.key.startsWith("reserved")).map((field) => fieldWords(cell.layer, field)[0]);
  return shorts.length > 3 ? `${shorts[0]}/${shorts[1]}…` : shorts.join("/");
}

export function cellText(cell) {
  if (cell.data) return t("ui.ofdata", { n: cell.len });
  return cell.fields.map((field) => (cell.fields.length > 1 ? `${fieldWords(cell.layer, field)[0]} ${field.text}` : field.text)).join(", ");
}

export function numberOf(cell) {
  return cell.bytes.reduce((sum, byte) => sum * 256 + byte, 0);
}

export function findCell(layer, key) {
  return layer.cells.find((one) => one.key === key);
}

// What differs from the step before. Layers are matched from the inside out, since a way puts on and takes off outside.
export function compare(before, now) {
  const nothing = { off: [], on: [], was: new Map(), first: true };
  if (!before) return nothing;
  const real = (layers) => layers.filter((layer) => layer.kind !== "more");
  const a = real(before), b = real(now);
  let same = 0;
  while (same < Math.min(a.length, b.length) && a[a.length - 1 - same].kind === b[b.length - 1 - same].kind) same++;
  const was = new Map();
  for (let i = 1; i <= same; i++) {
    const old = a[a.length - i], fresh = b[b.length - i];
    fresh.cells.forEach((one, k) => {
      const other = old.cells.find((candidate) => candidate.key === one.key && candidate.rel === one.rel) ?? old.cells[k];
      if (other && other.key === one.key && !one.data && hexes(other.bytes) !== hexes(one.bytes)) was.set(one, other);
    });
  }
  return { off: a.slice(0, a.length - same), on: b.slice(0, b.length - same), was, first: false };
}

export function layerName(layer) {
  if (has(`layer.${layer.id}`)) return t(`layer.${layer.id}`);
  const name = has(`layer.${layer.kind}`) ? t(`layer.${layer.kind}`) : layer.name;
  return layer.quoted ? `«${name}»` : name;
}

export function layerShort(layer) {
  const short = has(`abbr.${layer.kind}`) ? t(`abbr.${layer.kind}`) : layer.name;
  return layer.quoted ? `«${short}»` : short;
}
