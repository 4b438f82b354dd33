// The page: what it was started with, which view is shown, looks, languages and keys.

import { $, h, icon, radios } from "./dom.js";
import { engineView } from "./engine.js";
import { enginesKey, enginesView } from "./engines.js";
import { exercisesView } from "./exercises.js";
import { handout } from "./handout.js";
import { liveView, toggleWholeLab } from "./live.js";
import { clearStep, drawMap, mapElement, onMap, zoom } from "./map.js";
import { onCompare, onRun } from "./panels.js";
import { readingView } from "./reading.js";
import { openTerminal, terminalDrawer, toggleDrawer } from "./terminal.js";
import { act, currentWalk, fit, nextWalk, onChange, openRecording, showWalk, station, stop, toggleAnswer, toggleWhole, visit, walkFrame } from "./walk.js";
import { language, languages, setLanguage, setLanguages, t } from "./words.js";

const LOOKS = ["light", "dark", "projector"];
const boot = JSON.parse($("boot").textContent);
const page = { view: "walk", views: {}, look: "" };

function remembered(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`udplane.${key}`);
    localStorage.setItem(`udplane.${key}`, value);
  } catch {
    // A page from disk may have no storage: then nothing is remembered.
  }
  return null;
}

function setLook(name) {
  page.look = LOOKS.includes(name) ? name : "";
  const wished = matchMedia("(prefers-contrast: more)").matches ? "projector" : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.look = page.look || wished;
  radios($("looks"), LOOKS.map((look) => [look, t(`ui.${look}`)]), document.documentElement.dataset.look, (look) => {
    setLook(look);
    remembered("look", look);
    address();
  });
}

// The address says what is shown, so that it can be passed on. Browsers bear only so many changes of it.
const REST = 200;

function address() {
  clearTimeout(page.addressTimer);
  page.addressTimer = setTimeout(writeAddress, REST);
}

function writeAddress() {
  const { walk, at } = currentWalk();
  const parts = new URLSearchParams(page.view === "walk" && walk ? { walk: walk.id, step: at + 1 } : { view: page.view });
  if (page.look) parts.set("look", page.look);
  if (language() !== "en") parts.set("lang", language());
  history.replaceState(null, "", `#${parts}`);
}

function header() {
  const file = h("input", { type: "file", id: "file", accept: ".json,application/json" });
  file.addEventListener("change", () => openFile(file.files[0]));
  const chosen = h("select", { id: "languages", "aria-label": t("ui.language") }, ...languages().map(([code, name]) => h("option", { value: code, selected: code === language() }, name)));
  chosen.addEventListener("change", () => {
    remembered("language", chosen.value);
    start(chosen.value);
  });
  return h("header.top", {}, h("h1", {}, icon("M2 4h12v8H2z M5 7h6v2H5z"), "udplane ", h("b", {}, "lab")), h("div.tabs", { id: "views", role: "radiogroup", "aria-label": t("ui.views") }), h("div.tabs", { id: "walks", role: "radiogroup", "aria-label": t("ui.walk") }), h("button", { type: "button", id: "wholelab", hidden: true, "aria-pressed": "false", onclick: whole }, t("ui.wholelab")), h("div.spacer"), h("div.tabs", { id: "looks", role: "radiogroup", "aria-label": t("ui.look") }), languages().length > 1 ? chosen : null, h("label.open", {}, file, h("span", {}, t("ui.open"))), h("button", { type: "button", id: "print", onclick: () => print() }, t("ui.print")), h("button", { type: "button", id: "helpbutton", "aria-haspopup": "dialog", "aria-label": t("ui.help"), onclick: help }, "?"));
}

async function openFile(file) {
  try {
    walked(JSON.parse(await file.text()));
  } catch (error) {
    message(t("bad.file", { why: error.message }));
  }
}

export function message(text) {
  const dialog = $("help");
  dialog.replaceChildren(h("p", {}, text), h("form", { method: "dialog" }, h("button", { autofocus: true }, "OK")));
  dialog.showModal();
}

function help() {
  const dialog = $("help");
  const keys = t("keys").flatMap(([key, meaning]) => [h("dt", {}, key), h("dd", {}, meaning)]);
  dialog.replaceChildren(h("h2", {}, t("ui.help")), h("dl", {}, ...keys), h("form", { method: "dialog" }, h("button", { autofocus: true }, "OK")));
  dialog.showModal();
}

function whole() {
  if (page.view === "walk") toggleWhole();
  else toggleWholeLab();
}

function showView(name, options = {}) {
  page.views[page.view]?.leave?.();
  page.view = page.views[name] ? name : Object.keys(page.views)[0];
  document.body.dataset.view = page.view;
  radios($("views"), Object.keys(page.views).map((id) => [id, t(`view.${id}`)]), page.view, (id) => showView(id));
  $("views").hidden = Object.keys(page.views).length < 2;
  $("walks").hidden = true;
  $("wholelab").hidden = true;
  $("stage").hidden = page.view === "engine";
  page.views[page.view].show(options);
  address();
}

function walkView() {
  return {
    show({ walk, step }) {
      $("body").replaceChildren(...walkFrame());
      onMap({ visit, link: () => {}, node: () => {} });
      showWalk(walk ?? currentWalk().walk?.id, (Number(step) || 1) - 1);
    },
    leave: stop,
  };
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const target = event.target;
  if (target.matches?.("textarea,select,input:not(#slider),.xterm *")) return;
  if (event.key === "?") return help();
  if (event.key === "t" && page.live) {
    event.preventDefault();
    return toggleDrawer();
  }
  if (event.key === "v") return nextView();
  if (event.key === "d") return setLook(LOOKS[(LOOKS.indexOf(document.documentElement.dataset.look) + 1) % LOOKS.length]);
  if (page.view === "lab" && event.key === "m") return toggleWholeLab();
  if (page.view === "engines") return enginesKey(event);
  return page.view === "walk" ? walkKeys(event, target) : undefined;
}

function nextView() {
  const names = Object.keys(page.views);
  showView(names[(names.indexOf(page.view) + 1) % names.length]);
}

function walkKeys(event, target) {
  const scrolls = target.matches?.("pre"), button = target.closest?.("button,[role=button],label,summary");
  const move = { ArrowRight: "next", PageDown: "next", ArrowLeft: "prev", PageUp: "prev", Home: "first", End: "last" }[event.key];
  if (move && !scrolls) {
    event.preventDefault();
    return act(move);
  }
  if (/^[1-9]$/.test(event.key)) return station(Number(event.key));
  if (event.key === " " && !button && !scrolls) {
    event.preventDefault();
    return act("play");
  }
  return { w: nextWalk, q: toggleAnswer, m: toggleWhole }[event.key]?.();
}

function legend() {
  const dot = (kind) => h("span", { title: t(`origins.${kind}`) }, h(`span.dot.${kind}`, { "aria-hidden": "true" }), ` ${t(`origins.${kind}`)}`);
  return h("footer", {}, h("span", {}, `${t("ui.legend")}:`), dot("recorded"), dot("recomputed"), h("span", {}, t("ui.keyshint")));
}

function start(code) {
  setLanguage(code);
  document.title = t("ui.title");
  const main = h("main", {}, h("section", { id: "stage" }, h("div", { id: "scroll" })), h("div", { id: "body" }));
  $("app").replaceChildren(h("a.skip", { href: "#say", onclick: skip }, t("ui.skip")), header(), main, page.live ? terminalDrawer(page.places, ring) : "", legend());
  setLook(page.look || remembered("look"));
  const wanted = new URLSearchParams(location.hash.slice(1));
  const first = wanted.get("walk") && page.views.walk ? "walk" : wanted.get("view");
  showView(first ?? page.view, { walk: wanted.get("walk"), step: wanted.get("step") });
}

function skip(event) {
  event.preventDefault();
  document.querySelector("[tabindex='-1'].panel")?.focus();
}

// The place of the terminal that is in front has a ring in the picture.
function ring(name) {
  for (const frame of mapElement()?.querySelectorAll(".frame") ?? []) frame.classList.toggle("ring", Boolean(name) && frame.dataset.name === name);
}

// A walk that was made or read becomes the one that is shown.
function walked(document) {
  openRecording(document);
  page.views = { ...page.views, walk: walkView() };
  showView("walk");
}

function drawLab(all = true) {
  drawMap($("scroll"), boot.lab, { nodes: [], pods: [] });
  clearStep();
  zoom(all);
  onMap({ visit: (one) => openTerminal(one.where), link: () => {}, node: () => {} });
}

function reload(exercise) {
  history.replaceState(null, "", `#view=exercises&exercise=${exercise}`);
  location.reload();
}

// The golden packets that each step of an exercise asks for.
function goldenSets() {
  const steps = (boot.exercises ?? []).flatMap((one) => one.steps ?? []);
  return steps.flatMap((step) => (step.checks ?? []).filter((check) => check.cases).map((check) => ({ title: step.title, cases: check.cases })));
}

function makeViews() {
  if (boot.lab) page.views.lab = liveView(boot.lab, { message, walked, terminal: openTerminal, follow: walked });
  if (boot.recording) {
    openRecording(boot.recording);
    page.views.walk = walkView();
  }
  if (boot.exercises?.length) page.views.exercises = readingView({ list: boot.exercises, walked, engine: () => showView("engine") });
  if (boot.lab) page.views.exercises = exercisesView({ message, draw: () => drawLab(), chosen: new URLSearchParams(location.hash.slice(1)).get("exercise"), refresh: reload });
  if (boot.lab) page.views.engines = enginesView(boot.lab, { message, draw: () => drawLab(false), terminal: openTerminal });
  if (boot.engine) page.views.engine = engineView(boot.engine, goldenSets());
  page.view = boot.recording ? "walk" : Object.keys(page.views)[0];
}

function main() {
  setLanguages(boot.words);
  const wanted = new URLSearchParams(location.hash.slice(1));
  page.look = wanted.get("look") ?? "";
  page.live = Boolean(boot.lab);
  page.places = boot.lab ? [...(boot.lab.pods ?? []), ...boot.lab.nodes, ...(boot.lab.hosts ?? []), ...(boot.lab.segments ?? [])].map((one) => one.name) : [];
  if (location.search.includes("token=")) history.replaceState(null, "", location.pathname + location.hash);
  if (page.live) onRun((where, command) => openTerminal(where, command));
  if (page.live) onCompare((packet) => showView("engines", { packet }));
  makeViews();
  onChange(address);
  document.addEventListener("keydown", keys);
  addEventListener("resize", () => page.view === "walk" && fit());
  addEventListener("beforeprint", () => page.view === "walk" && handout($("handout"), currentWalk()));
  const note = boot.note;
  start(wanted.get("lang") ?? remembered("language") ?? navigator.language);
  if (note) message(note);
}

main();
