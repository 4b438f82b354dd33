// The view of a walk: a picture, one band of controls, three panels.

import { $, h, radios } from "./dom.js";
import { drawMap, paintStep, picture, stationName, zoom } from "./map.js";
import { paintFacts, paintPacket, paintSay } from "./panels.js";
import { before, focusOf, readRecording } from "./recording.js";
import { stationKey } from "./route.js";
import { buildControls, buildLegs, buildTicks, paintControls, paintPlay } from "./slider.js";
import { number, plain, sentence, t } from "./words.js";

const PACE = 2600;
const state = { recording: null, walk: null, at: 0, timer: 0, whole: false, changed: () => {} };

export function currentWalk() {
  return state;
}

export function onChange(changed) {
  state.changed = changed;
}

// Show a recording; throws an Error when it is none.
export function openRecording(document) {
  state.recording = readRecording(document);
}

export function placeName(step) {
  const one = picture().stations.get(stationKey(picture(), step.at));
  if (one && one.where === step.at.where) return stationName(one.place === step.at.place ? one : { ...one, place: step.at.place });
  return `${step.at.where}, ${t(`place.${step.at.place}`)}`;
}

export function showWalk(id, at = 0) {
  stop();
  state.walk = state.recording.walks.find((walk) => walk.id === id) ?? state.recording.walks[0];
  drawMap($("scroll"), state.recording.lab, focusOf(state.recording.lab, state.walk));
  state.whole ||= leavesTheTop(state.walk);
  const more = zoom(state.whole);
  $("wholelab").hidden = !more;
  $("wholelab").setAttribute("aria-pressed", String(state.whole));
  buildControls($("controls"), act);
  buildTicks(state.walk, (i) => act(i), (i) => {
    const step = state.walk.steps[i];
    return `${placeName(step)}, ${t("ui.total", { n: number(step.packet.len) })}: ${plain(sentence(step.say, step.args).title)}`;
  });
  buildLegs(state.walk, (i) => act(i));
  walkTabs();
  go(at, true);
}

// Whether a walk's way leads through what the upper part of the picture has no room for.
function leavesTheTop(walk) {
  const plan = picture();
  return walk.steps.some((step) => plan.stations.get(stationKey(plan, step.at))?.y > plan.first);
}

export function walkTitle(walk) {
  const known = t(`walk.${walk.id}`);
  return known !== walk.id ? known : (walk.ask ?? walk.id).replace(/^udplane lab walk /, "");
}

function walkTabs() {
  const walks = state.recording.walks;
  $("walks").hidden = walks.length < 2;
  radios($("walks"), walks.map((walk) => [walk.id, walkTitle(walk)]), state.walk.id, (id) => showWalk(id));
}

export function go(i, quiet = false) {
  const from = state.at, { walk } = state;
  state.at = Math.max(0, Math.min(walk.steps.length - 1, Number.isFinite(i) ? i : 0));
  const step = walk.steps[state.at], place = placeName(step);
  paintStep(walk, state.at, quiet ? null : from);
  paintPacket(walk, state.at, before(walk, state.at));
  paintSay(walk, state.at, place);
  paintFacts(state.recording, step);
  paintControls(walk, state.at, place);
  fit();
  if (state.at === walk.steps.length - 1) stop();
  state.changed();
}

// A step is seen without scrolling: what does not fit into its panel is drawn smaller, down to what can still be read.
const SMALLEST = 0.7;

export function fit() {
  if (innerWidth <= 900 || innerHeight <= 560) return;
  for (const panel of document.querySelectorAll(".panel")) {
    let size = 1;
    panel.style.removeProperty("zoom");
    while (panel.scrollHeight > panel.clientHeight + 1 && size > SMALLEST) {
      size -= 0.04;
      panel.style.setProperty("zoom", size.toFixed(2));
    }
  }
}

// A step by its number, or a control by its name.
export function act(what) {
  if (what === "play") return play();
  stop();
  const last = state.walk.steps.length - 1;
  go(typeof what === "number" ? what : { first: 0, prev: state.at - 1, next: state.at + 1, last }[what]);
  return undefined;
}

export function station(mark) {
  const list = state.walk.marks.map((one, i) => (one === mark ? i : -1)).filter((i) => i >= 0);
  if (list.length) act(list.find((i) => i > state.at) ?? list[0]);
}

// Go to the step at a station: on this leg if there is one.
export function visit(one) {
  const steps = state.walk.steps, here = steps[state.at].leg;
  const at = (leg) => steps.findIndex((step) => (!leg || step.leg === leg) && stationKey(picture(), step.at) === one.key);
  const found = at(here) >= 0 ? at(here) : at(null);
  if (found >= 0) act(found);
}

export function nextWalk() {
  const { walks } = state.recording, i = walks.indexOf(state.walk);
  showWalk(walks[(i + 1) % walks.length].id);
}

export function toggleWhole() {
  state.whole = !state.whole;
  zoom(state.whole);
  $("wholelab").setAttribute("aria-pressed", String(state.whole));
}

export function toggleAnswer() {
  const question = $("say").querySelector(".ask");
  if (question) question.open = !question.open;
}

export function stop() {
  if (!state.timer) return;
  clearInterval(state.timer);
  state.timer = 0;
  paintPlay(false);
}

function play() {
  if (state.timer) return stop();
  if (state.at === state.walk.steps.length - 1) go(0);
  state.timer = setInterval(() => go(state.at + 1), PACE);
  paintPlay(true);
  go(state.at + 1);
  return undefined;
}

export function walkFrame() {
  return [h("section.controls", { id: "controls", role: "group", "aria-label": t("ui.controls") }), h("section.panels", {}, h("article.panel", { id: "say", tabindex: -1 }), h("article.panel", { id: "packet" }), h("article.panel", { id: "facts" }))];
}
