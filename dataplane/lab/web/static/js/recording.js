// A recorded walk: read, checked, and made easy to ask.

import { t } from "./words.js";

// What is wrong with a document that should be a recording; throws an Error with a sentence for people.
export function readRecording(document) {
  const fail = (why) => {
    throw new Error(why);
  };
  if (!document || typeof document !== "object") fail(t("bad.json"));
  if (document.format !== "udplane-walk") fail(t("bad.format"));
  if (document.version !== 1) fail(t("bad.version", { version: document.version }));
  const walks = document.walks ?? (document.steps ? [document] : []);
  if (!walks.length || !walks.every((walk) => walk.steps?.length)) fail(t("bad.empty"));
  if (!document.lab?.nodes?.length) fail(t("bad.lab"));
  walks.forEach((walk, w) => walk.steps.forEach((step, i) => {
    if (!step.at?.where || !step.packet) fail(t("bad.step", { walk: w + 1, step: i + 1 }));
  }));
  return { lab: document.lab, see: document.see ?? [], walks: walks.map((walk, i) => readWalk(walk, i)) };
}

function readWalk(walk, i) {
  const legs = (walk.legs ?? []).map((leg) => (typeof leg === "string" ? { id: leg, kind: leg } : leg));
  return { ...walk, id: walk.id ?? `walk${i + 1}`, legs, outcome: walk.outcome ?? {}, marks: marksOf(walk.steps) };
}

// The stations for the keys 1 to 9: as recorded, or by the places that a packet passes.
const PLACES = { socket: 1, bridge: 2, route: 3, tunnel: 4, engine: 5, wire: 6 };
const BACK = { engine: 7, bridge: 8, socket: 9 };

function marksOf(steps) {
  if (steps.some((step) => step.mark)) return steps.map((step) => step.mark ?? 0);
  const given = new Set();
  return steps.map((step, i) => {
    const fresh = i > 0 && steps[i - 1].leg !== step.leg;
    if (fresh) given.clear();
    const past = given.has(6), place = step.at.place;
    const mark = (past ? BACK : PLACES)[place] ?? 0;
    if (!mark || given.has(mark) || (place === "route" && !given.has(2))) return 0;
    given.add(mark);
    return mark;
  });
}

// The step that a step is compared with: the one before on the same leg, or at a branch where it was made.
export function before(walk, at) {
  const leg = walk.steps[at].leg;
  for (let i = at - 1; i >= 0; i--) if (walk.steps[i].leg === leg) return walk.steps[i];
  return null;
}

// The places that the picture shows large: those of the walk's own way.
export function focusOf(lab, walk) {
  const where = [...new Set(walk.steps.map((step) => step.at.where))];
  const names = (list) => new Set((list ?? []).map((one) => one.name));
  const pods = where.filter((name) => names(lab.pods).has(name));
  const nodes = where.filter((name) => names(lab.nodes).has(name));
  for (const pod of pods) {
    const node = lab.pods.find((one) => one.name === pod).node;
    if (!nodes.includes(node)) nodes.push(node);
  }
  return { nodes, pods };
}

export function legName(walk, id) {
  const leg = walk.legs.find((one) => one.id === id) ?? { id, kind: id };
  const text = t(`leg.${leg.kind}`);
  const number = walk.legs.filter((one) => one.kind === leg.kind).indexOf(leg);
  return number > 0 ? `${text} ${number + 1}` : text;
}
