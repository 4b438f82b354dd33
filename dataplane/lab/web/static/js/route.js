// The way between two stations, along the wires of the picture, and which station a step of a recording means.

// The key of the station that `at` names; the nearest one of the same place where the picture has no such station.
export function stationKey(picture, at) {
  if (!at) return null;
  const mine = [...picture.stations.values()].filter((one) => one.where === at.where);
  const named = { wire: ["veth", "wire", "underlay", "eth0"], eth0: ["eth0", "underlay"], underlay: ["underlay", "eth0", "wire"], host: ["socket", "route", "engine"], socket: ["socket", "udp", "route"] }[at.place] ?? [at.place];
  for (const place of named) {
    const there = mine.filter((one) => one.place === place);
    const exact = there.find((one) => one.device === at.device && at.device);
    if (exact) return exact.key;
    if (there.length && place !== "veth") return (there.find((one) => one.place !== "wire" || one.shape === "switch") ?? there[0]).key;
  }
  return (mine.find((one) => one.device && one.device === at.device) ?? mine.find((one) => one.place === "route") ?? mine[0])?.key ?? null;
}

function neighbours(picture) {
  if (picture.graph) return picture.graph;
  const graph = new Map();
  const add = (from, to, via, wire) => graph.set(from, [...(graph.get(from) ?? []), { to, via, wire }]);
  for (const wire of picture.wires) {
    add(wire.a, wire.b, wire.via, wire);
    add(wire.b, wire.a, [...wire.via].reverse(), wire);
  }
  picture.graph = graph;
  return graph;
}

// The points of the way from one station to another: the fewest wires, else a straight line.
export function pointsBetween(picture, from, to) {
  const graph = neighbours(picture);
  const centre = (key) => [picture.stations.get(key).x, picture.stations.get(key).y];
  if (from === to) return [centre(from)];
  const came = new Map([[from, null]]);
  const queue = [from];
  while (queue.length && !came.has(to)) {
    const here = queue.shift();
    for (const edge of graph.get(here) ?? []) {
      if (came.has(edge.to)) continue;
      came.set(edge.to, { here, edge });
      queue.push(edge.to);
    }
  }
  if (!came.has(to)) return [centre(from), centre(to)];
  const points = [centre(to)];
  for (let step = came.get(to); step; step = came.get(step.here)) points.unshift(centre(step.here), ...step.edge.via);
  return points;
}
