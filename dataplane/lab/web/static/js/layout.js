// Where everything of a lab stands in the picture: from a LabView to boxes, stations, wires and texts.
//
// Two nodes are drawn large, one on each side of the underlay, so that the way from pod to pod reads like a sentence; all
// others have the same shape at half the size, in rows below. Every device is a station, also those that no packet meets.
// A station's key is `where/place/device`; wires join stations, and the way between any two is found along them.

export const WIDTH = 1360;

const NODE = { width: 580, height: 292, podX: 18, podWidth: 120, busX: 208, route: 279, nft: 361, tunnel: 445, engine: 483, nic: 539, row: 232 };
const BOXES = { route: [66, 52], netfilter: [66, 52], tunnel: [74, 52], engine: [142, 52], udp: [80, 34], underlay: [66, 52], bridge: [28, 22] };
const MIDDLE = { left: 602, right: 758, top: 172, height: 116 };
const SMALL = 0.5;

// lab: a LabView document; focus: {nodes: [names drawn large], pods: [names whose inside is drawn]}.
export function layout(lab, focus) {
  const picture = { width: WIDTH, height: 0, frames: [], texts: [], wires: [], stations: new Map(), lab };
  const names = lab.nodes.map((node) => node.name);
  const large = [...focus.nodes.filter((name) => names.includes(name)), ...names].filter((name, i, all) => all.indexOf(name) === i).slice(0, 2);
  const heights = large.map((name, i) => putNode(picture, lab, byName(lab.nodes, name), { x: i ? WIDTH - 6 - NODE.width : 6, y: 4, scale: 1, mirror: i === 1 }, focus));
  const row = Math.max(NODE.height, ...heights, 0);
  picture.first = row + 8;
  putSegments(picture, lab, large);
  picture.height = putRest(picture, lab, names.filter((name) => !large.includes(name)), row + 30, focus);
  joinSegments(picture, lab, large);
  return picture;
}

function byName(list, name) {
  return (list ?? []).find((entry) => entry.name === name);
}

function isLoose(pod) {
  return !pod.host_device;
}

// Functions that put things of one node into the picture, by the node's own coordinates: mirrored, moved, scaled.
function frameOf(picture, place, name) {
  const { x: ox, y: oy, scale, mirror } = place;
  const X = (x) => ox + scale * (mirror ? NODE.width - x : x);
  const Y = (y) => oy + scale * y;
  const side = mirror ? "end" : "start";
  return {
    X, Y, scale, mirror, name,
    frame: (kind, x, y, w, h, r = 8, extra = {}) => picture.frames.push({ kind, x: mirror ? X(x + w) : X(x), y: Y(y), w: w * scale, h: h * scale, r: r * scale, ...extra }),
    text: (x, y, text, kind = "t2", anchor = "start", extra = {}) => picture.texts.push({ x: X(x), y: Y(y), text, kind, scale, anchor: anchor === "middle" ? anchor : anchor === "start" ? side : side === "start" ? "end" : "start", ...extra }),
    station: (where, at, x, y, w, h, extra = {}) => {
      const key = [where, at, extra.device ?? ""].join("/");
      picture.stations.set(key, { key, where, place: at, x: X(x), y: Y(y), w: w * scale, h: h * scale, scale, mirror, shape: "box", ...extra });
      return key;
    },
    wire: (a, b, via = [], extra = {}) => picture.wires.push({ a, b, via: via.map(([x, y]) => [X(x), Y(y)]), scale, ...extra }),
  };
}

function putNode(picture, lab, node, place, focus) {
  const to = frameOf(picture, place, node.name);
  const pods = (lab.pods ?? []).filter((pod) => pod.node === node.name).sort((a, b) => focus.pods.includes(b.name) - focus.pods.includes(a.name));
  const rows = podRows(pods, focus);
  const height = Math.max(NODE.height, rows.total + 40);
  to.frame("node", 0, 0, NODE.width, height, 12, { node: node.name });
  const lease = (node.subnets ?? [])[0] ?? "";
  to.text(14, 22, node.name, "t1", "start", { big: place.scale < 1 });
  to.text(22 + node.name.length * 9.5 * (place.scale < 1 ? 1.6 : 1), 22, [short(node.addresses?.[0]), lease].filter(Boolean).join("  ·  "), "t2 soft");
  to.frame("user", 230, 32, 340, 128);
  to.frame("kernel", 230, 168, 340, 116);
  to.text(238, 48, "ui.userspace", "t3 soft", "start", { word: true });
  to.text(238, 277, "ui.kernel", "t3 soft", "start", { word: true });
  to.frame("bridge", 190, 32, 24, height - 40, 6);
  to.text(202, 56, node.bridge ?? "cni0", "t2", "middle", { turn: place.mirror ? 90 : -90, dy: 4, shift: 18 });
  putStations(to, node);
  pods.forEach((pod, i) => putPod(to, node, pod, rows.at[i], rows.height[i], focus.pods.includes(pod.name)));
  if (node.backend === "udp" || !node.backend) putLeases(to, lab, node);
  return height;
}

// How the pods share the column: those in focus need room for what is inside them.
function podRows(pods, focus) {
  const wide = pods.length <= 2;
  const height = pods.map((pod) => (focus.pods.includes(pod.name) ? 122 : wide ? 116 : 52));
  const at = [];
  let y = 32;
  for (const one of height) {
    at.push(y);
    y += one + 8;
  }
  return { at, height, total: y - 32 };
}

function putStations(to, node) {
  const box = (at, x, y, label, sub, extra = {}) => to.station(node.name, at, x, y, ...BOXES[at], { label, sub, ...extra });
  const { row } = NODE;
  const bridge = box("bridge", NODE.busX - 6, row - 4, "", "", { device: node.bridge ?? "cni0" });
  const route = box("route", NODE.route - 6, row - 4, "place.route", "ui.ttlless", { words: true });
  const filter = box("netfilter", NODE.nft - 6, row - 4, "netfilter", "");
  const nic = box("underlay", NODE.nic - 6, row - 4, node.device ?? "eth0", "", { device: node.device ?? "eth0" });
  to.wire(bridge, route);
  to.wire(route, filter);
  const low = row + 40;
  const around = [[NODE.nft - 6, low], [NODE.nic - 6, low]];
  if (node.backend === "host-gw" || !node.tunnel) {
    to.wire(filter, nic, [], { link: { where: node.name, device: node.device ?? "eth0" } });
    putIdle(to);
    return;
  }
  const link = { where: node.name, device: node.tunnel };
  const tunnel = box("tunnel", NODE.tunnel - 6, row - 4, node.backend === "vxlan" ? "VXLAN" : "TUN", node.tunnel, { device: node.tunnel });
  to.wire(filter, tunnel, [], { link });
  to.wire(filter, nic, around, { ghost: true });
  const udp = box("udp", NODE.nic - 6, 162, node.backend === "vxlan" ? "UDP" : "UDP :8285", "");
  if (node.backend === "vxlan") {
    to.wire(tunnel, udp, [[NODE.tunnel - 6, 162]]);
    putIdle(to);
  } else {
    const engine = box("engine", NODE.engine - 6, 80, "udplane", "ui.engine", { words: true, args: { engine: engineName(node.engine) } });
    to.wire(tunnel, engine, [[NODE.tunnel - 6, 106]], { link });
    to.wire(engine, udp, [[NODE.nic - 6, 106]]);
  }
  to.wire(udp, nic);
}

// Where the kernel moves the packets, udplane only fills its tables.
function putIdle(to) {
  to.frame("idle", 300, 56, 200, 50, 6);
  to.text(400, 78, "udplane", "t2 strong", "middle");
  to.text(400, 94, "ui.idle", "t3 soft", "middle", { word: true });
}

function engineName(engine) {
  return (engine ?? "native").split("/").pop();
}

function putLeases(to, lab, node) {
  to.frame("table", 240, 54, 148, 54, 6);
  to.text(248, 70, "ui.leases", "t3 soft", "start", { word: true });
  const others = lab.nodes.filter((other) => other.name !== node.name && other.subnets?.length);
  others.slice(0, others.length > 2 ? 1 : 2).forEach((other, i) => to.text(248, 85 + i * 14, `${other.subnets[0]} → ${other.name}`, "t3 m", "start", { fit: 136 }));
  if (others.length > 2) to.text(248, 99, "ui.moreleases", "t3 soft", "start", { word: true, args: { n: others.length - 1 } });
  to.frame("tie", 388, 80, 18, 0);
}

function putPod(to, node, pod, y, height, inside) {
  to.frame(isLoose(pod) ? "pod loose" : "pod", 12, y, NODE.podWidth, height, 8, { pod: pod.name });
  to.text(22, y + 19, pod.name, "t1");
  const addresses = (pod.addresses ?? []).map(short);
  addresses.slice(0, inside || height > 60 ? 2 : 1).forEach((address, i) => to.text(22, y + 34 + i * 13, address, "t3 soft m", "start", { fit: 106 }));
  const line = y + height - (inside ? 44 : 16);
  const eth0 = to.station(pod.name, "eth0", 132, line, 18, 18, { shape: "port", device: pod.device ?? "eth0", below: inside ? pod.device : "", belowShift: -8 });
  if (inside) {
    const app = to.station(pod.name, "socket", 36, line, 22, 22, { shape: "circle", below: "place.app", words: true });
    const ip = to.station(pod.name, "route", 80, line, 26, 26, { shape: "diamond", below: "IP" });
    to.wire(app, ip);
    to.wire(ip, eth0);
  } else {
    const app = to.station(pod.name, "socket", 100, line, 10, 10, { shape: "circle", quiet: true });
    const ip = to.station(pod.name, "route", 116, line, 12, 12, { shape: "diamond", quiet: true });
    to.wire(app, ip);
    to.wire(ip, eth0);
  }
  if (isLoose(pod)) {
    to.text(161, line - 8, "ui.notwired", "t3 soft", "middle", { word: true });
    return;
  }
  const veth = to.station(node.name, "veth", 190, line, 18, 18, { shape: "port", device: pod.host_device });
  to.text(161, line - 8, "veth", "t3 soft", "middle");
  to.wire(eth0, veth, [], { link: { where: node.name, device: pod.host_device }, cable: true });
  to.wire(veth, [node.name, "bridge", node.bridge ?? "cni0"].join("/"), [[NODE.busX - 6, line]], { hidden: true });
}

function short(address) {
  return (address ?? "").replace(/\/\d+$/, "");
}

// ---- the underlay

function segmentOf(lab, name) {
  return byName(lab.nodes, name)?.segment || byName(lab.hosts, name)?.segment;
}

function segmentName(lab, wanted) {
  return byName(lab.segments, wanted)?.name ?? lab.segments?.[0]?.name;
}

// The segments of the two large nodes stand between them: one box, or two side by side.
function putSegments(picture, lab, large) {
  const sides = large.map((name) => segmentName(lab, segmentOf(lab, name))).filter(Boolean);
  const inside = [...new Set(sides)];
  const width = (MIDDLE.right - MIDDLE.left - (inside.length - 1) * 12) / Math.max(inside.length, 1);
  inside.forEach((name, i) => putSegment(picture, byName(lab.segments, name), MIDDLE.left + i * (width + 12), MIDDLE.top, width, MIDDLE.height));
}

function putSegment(picture, segment, x, y, w, h) {
  const middle = x + w / 2;
  picture.frames.push({ kind: "segment", x, y, w, h, r: 12, segment: segment.name });
  picture.texts.push({ x: middle, y: y + 20, text: segment.name, kind: "t1", anchor: "middle", scale: 1, fit: w - 10 });
  picture.texts.push({ x: middle, y: y + h - 8, text: network(picture.lab, segment), kind: "t3 soft m", anchor: "middle", scale: 1, fit: w - 8 });
  const key = [segment.name, "wire", segment.device ?? ""].join("/");
  picture.stations.set(key, { key, where: segment.name, place: "wire", device: segment.device ?? "", x: middle, y: y + h / 2 + 2, w: 16, h: 16, scale: 1, shape: "switch", above: "ui.switch", words: true, box: { x, y, w, h }, lift: y });
}

// The network that a segment's address lies in, as people write it.
function network(lab, segment) {
  const member = segment.addresses?.[0] ?? (lab.nodes.find((node) => node.segment === segment.name) ?? (lab.hosts ?? []).find((host) => host.segment === segment.name))?.addresses?.[0];
  const [address, length] = (member ?? "").split("/");
  const parts = address.split(".").map(Number);
  if (parts.length !== 4 || !length) return member ?? "";
  const bits = Number(length);
  return parts.map((part, i) => part & (0xff << Math.max(0, Math.min(8, 8 * (i + 1) - bits)))).join(".") + "/" + length;
}

// Hosts, further segments and further nodes: rows below.
function putRest(picture, lab, nodes, top, focus) {
  const others = (lab.segments ?? []).filter((segment) => ![...picture.stations.values()].some((one) => one.where === segment.name));
  // Routers first: they are on the way.
  const hosts = [...(lab.hosts ?? [])].sort((a, b) => Object.keys(b.devices ?? {}).length - Object.keys(a.devices ?? {}).length);
  hosts.slice(0, 2).forEach((host, i, list) => putHost(picture, host, MIDDLE.left + 3, list.length > 1 ? 8 + i * 66 : 40, 150, 58));
  const small = [...others.map((segment) => [170, 80, (x, y) => putSegment(picture, segment, x, y, 170, 80)]), ...hosts.slice(2).map((host) => [150, 58, (x, y) => putHost(picture, host, x, y, 150, 58)])];
  let y = top;
  small.forEach(([, , put], i) => put(20 + (i % 7) * 190, y + Math.floor(i / 7) * 100));
  if (small.length) y += Math.ceil(small.length / 7) * 100 + 10;
  const columns = [6, 306, 764, 1064];
  for (let i = 0; i < nodes.length; i += 4) {
    const tall = nodes.slice(i, i + 4).map((name, k) => putNode(picture, lab, byName(lab.nodes, name), { x: columns[k], y, scale: SMALL, mirror: k > 1 }, focus));
    y += Math.max(...tall) * SMALL + 26;
  }
  return nodes.length || small.length ? y : picture.first;
}

function putHost(picture, host, x, y, w, h) {
  picture.frames.push({ kind: "host", x, y, w, h, r: 8, host: host.name });
  picture.texts.push({ x: x + 10, y: y + 19, text: host.name, kind: "t1", anchor: "start", scale: 1, fit: w - 20 });
  picture.texts.push({ x: x + 10, y: y + 34, text: short(host.addresses?.[0]), kind: "t3 soft m", anchor: "start", scale: 1 });
  const line = y + h - 2;
  const put = (at, px, size, extra) => {
    const key = [host.name, at, extra.device ?? ""].join("/");
    picture.stations.set(key, { key, where: host.name, place: at, x: px, y: line, w: size, h: size, scale: 1, ...extra });
    return key;
  };
  const devices = Object.values(host.devices ?? {});
  const nics = (devices.length ? devices : [host.device ?? "eth0"]).map((device, i, all) => put("eth0", x + w / 2 + (all.length > 1 ? (i / (all.length - 1) - 0.5) * 76 : 0), 14, { shape: "port", device }));
  const app = devices.length > 1 ? null : put("socket", x + w / 2 - 40, 12, { shape: "circle" });
  const ip = put("route", x + w / 2 - (app ? 20 : 0), 14, { shape: "diamond" });
  if (app) picture.wires.push({ a: app, b: ip, via: [], scale: 1 });
  for (const nic of nics) picture.wires.push({ a: ip, b: nic, via: [], scale: 1 });
}

// A port on the segment's edge for each member, and the wire to the member.
function joinSegments(picture, lab, large) {
  for (const segment of lab.segments ?? []) {
    const hub = picture.stations.get([segment.name, "wire", segment.device ?? ""].join("/"));
    if (!hub) continue;
    const members = Object.entries(segment.ports ?? {});
    const apart = members.filter(([name]) => !large.includes(name));
    apart.forEach(([name, device], i) => join(picture, segment, hub, name, device, i, apart.length));
    for (const [name, device] of members) if (large.includes(name)) beside(picture, segment, hub, name, device, large.indexOf(name) === 1);
  }
}

function putPort(picture, segment, hub, x, y, device, label, extra = {}) {
  const key = [segment.name, "wire", device].join("/");
  picture.stations.set(key, { key, where: segment.name, place: "wire", device, x, y, w: 16, h: 16, scale: 1, shape: "port", ...extra, below: label, lift: hub.box.y });
  picture.wires.push({ a: key, b: hub.key, via: [], scale: 1 });
  return key;
}

// The interface of a node or host on a segment.
function nicOf(picture, name, segment) {
  const device = byName(picture.lab.hosts, name)?.devices?.[segment];
  const fits = (one) => one.where === name && (one.place === "underlay" || one.place === "eth0") && (!device || one.device === device);
  return [...picture.stations.values()].find(fits);
}

// A large node: port and interface are on one line.
function beside(picture, segment, hub, name, device, right) {
  const nic = nicOf(picture, name, segment.name);
  const x = right ? hub.box.x + hub.box.w - 28 : hub.box.x + 28;
  const key = putPort(picture, segment, hub, x, hub.y, device, name);
  if (nic) picture.wires.push({ a: nic.key, b: key, via: [], scale: 1, link: { where: segment.name, device }, cable: true });
}

// Others hang on the lower edge, or on the upper one when they stand above.
function join(picture, segment, hub, name, device, i, n) {
  const nic = nicOf(picture, name, segment.name), other = picture.stations.get([name, "wire", byName(picture.lab.segments, name)?.device ?? ""].join("/"));
  const end = nic ?? other;
  const { x, y, w, h } = hub.box;
  const px = x + w / 2 + (n > 1 ? (i / (n - 1) - 0.5) * Math.min(w - 60, 90) : 0);
  const above = end && end.y < y;
  const py = above ? y : y + h;
  const key = putPort(picture, segment, hub, px, py, device, "", { title: name, tiny: true });
  if (!end) return;
  if (other && !nic) {
    if (segment.name < name) picture.wires.push({ a: key, b: [name, "wire", picture.lab.segments.find((one) => one.name === name)?.ports?.[segment.name] ?? ""].join("/"), via: [], scale: 1, cable: true });
    return;
  }
  const lane = above ? (end.y + y) / 2 : end.y + (nic?.scale < 1 ? 38 : 26) + (i % 5) * 2;
  const via = Math.abs(end.x - px) < 2 ? [] : above ? [[px, lane], [end.x, lane]] : [[px, lane], [end.x, lane]];
  picture.wires.push({ a: key, b: end.key, via, scale: 1, link: { where: segment.name, device }, cable: true });
}
