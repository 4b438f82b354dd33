// Your engine: an editor at the left, golden packets in the middle, what went wrong at the right. Python runs in a worker,
// so that a loop without an end can be ended.

import { $, download, h } from "./dom.js";
import { has, t } from "./words.js";

const SECONDS = 60;
const COLUMNS = 20;
const state = { source: "", starter: "", results: null, error: "", chosen: null, worker: null, status: "", available: false, base: "engine/", sets: [], set: "", waiting: [] };

// `sets`: parts of the golden packets by name, as the steps of an exercise ask for them.
export function engineView(description, sets = []) {
  state.starter = description.source ?? "";
  state.available = Boolean(description.pyodide) && location.protocol.startsWith("http");
  state.worker_url = description.worker ?? "static/js/engine-worker.js";
  state.source ||= saved() ?? state.starter;
  state.sets = sets;
  return { show, leave: () => {} };
}

function saved() {
  try {
    return localStorage.getItem("udplane.engine");
  } catch {
    return null;
  }
}

function keep() {
  try {
    localStorage.setItem("udplane.engine", state.source);
  } catch {
    // Without storage the text lives as long as the page.
  }
}

function show() {
  $("scroll").replaceChildren();
  const editor = h("textarea", { id: "editor", spellcheck: "false", autocapitalize: "off", autocomplete: "off", wrap: "off", "aria-label": t("ui.editor") });
  editor.value = state.source;
  const numbers = h("pre.numbers", { "aria-hidden": "true" });
  const count = () => (numbers.textContent = Array.from({ length: editor.value.split("\n").length }, (_, i) => i + 1).join("\n"));
  editor.addEventListener("input", () => {
    state.source = editor.value;
    keep();
    count();
  });
  editor.addEventListener("scroll", () => (numbers.scrollTop = editor.scrollTop));
  editor.addEventListener("keydown", (event) => editorKey(event, editor));
  count();
  const button = (name, act, kind = "") => h("button", { type: "button", class: kind, id: `engine-${name}`, onclick: act }, t(`ui.${name}`));
  const again = () => {
    editor.value = state.source = state.starter;
    keep();
    count();
  };
  const bar = [button("judge", judge, "main"), button("halt", halt), button("restart", again), button("savefile", () => download("mine.py", state.source, "text/x-python")), setPicker(), h("span", { id: "enginestatus", role: "status" }, state.status)];
  $("body").replaceChildren(h("section.controls.band", {}, ...bar.filter(Boolean)), h("section.panels.engine", {}, h("article.panel.editor", {}, numbers, editor), h("article.panel", { id: "golden", tabindex: -1 }), h("article.panel", { id: "wrong" })));
  if (!state.available) say(unavailable());
  $("engine-judge").disabled = !state.available;
  paint();
}

function setPicker() {
  if (!state.sets.length) return null;
  const pick = h("select", { id: "goldenset", "aria-label": t("ui.golden") }, h("option", { value: "" }, t("ui.allgolden")), ...state.sets.map((one) => h("option", { value: one.title, selected: one.title === state.set }, one.title)));
  pick.addEventListener("change", () => {
    state.set = pick.value;
    state.chosen = null;
    paint();
  });
  return pick;
}

function editorKey(event, editor) {
  if ((event.ctrlKey || event.metaKey) && (event.key === "Enter" || event.key === "s")) {
    event.preventDefault();
    judge();
  } else if (event.key === "Tab" && !event.shiftKey) {
    event.preventDefault();
    editor.setRangeText("    ", editor.selectionStart, editor.selectionEnd, "end");
    editor.dispatchEvent(new Event("input"));
  } else if (event.key === "Escape") {
    $("engine-judge").focus();
  }
  event.stopPropagation();
}

function unavailable() {
  return t(location.protocol === "file:" ? "ui.enginedisk" : "ui.nopyodide");
}

function say(text) {
  state.status = text;
  if ($("enginestatus")) $("enginestatus").textContent = text;
}

function halt() {
  state.worker?.terminate();
  state.worker = null;
  clearTimeout(state.timer);
  say(t("ui.halted"));
  answer({ error: t("ui.halted") });
}

function answer(data) {
  for (const waits of state.waiting.splice(0)) waits(data);
}

// What the golden packets say of the text in the editor: {results} or {error}.
export function golden() {
  if (!state.available) return Promise.resolve({ error: unavailable() });
  if (!state.worker) {
    state.worker = new Worker(state.worker_url, { type: "module" });
    state.worker.onerror = (event) => {
      state.worker = null;
      answer({ error: t("bad.engine", { why: event.message ?? "" }) });
    };
    say(t("ui.loading"));
  } else {
    say(t("ui.judging"));
  }
  clearTimeout(state.timer);
  state.worker.onmessage = ({ data }) => {
    if (data.ready) {
      say(t("ui.judging"));
      state.timer = setTimeout(halt, SECONDS * 1000);
      return;
    }
    clearTimeout(state.timer);
    state.error = data.error ?? "";
    state.results = data.results ?? null;
    state.chosen = null;
    answer(data);
  };
  const asked = new Promise((done) => state.waiting.push(done));
  state.worker.postMessage({ source: state.source, base: new URL(state.base, document.baseURI).href });
  return asked;
}

async function judge() {
  if (!state.available) return;
  const began = performance.now(), { error } = await golden();
  const list = shown(), passed = list.filter((one) => one.passed).length;
  say(error ?? t("ui.judged", { passed, n: list.length, ms: Math.round(performance.now() - began) }));
  if ($("golden")) paint();
}

// The results of the chosen part.
function shown() {
  const set = state.sets.find((one) => one.title === state.set);
  return (state.results ?? []).filter((one) => !set || set.cases.includes(one.name));
}

function paint() {
  const list = shown();
  if (state.chosen == null || !list.some((one) => one.name === state.chosen)) state.chosen = list.find((one) => !one.passed)?.name ?? null;
  if (state.error) $("golden").replaceChildren(h("p.verdict", {}, `✗ ${state.error}`));
  else if (!state.results) $("golden").replaceChildren(h("h3", {}, t("ui.golden")), h("p.note", {}, t("ui.goldenhint")));
  else $("golden").replaceChildren(h("h3", {}, t("ui.golden")), h("ol.golden", {}, ...list.map((one) => h("li", {}, h("button", { type: "button", class: one.passed ? "passed" : "failed", "aria-pressed": String(one.name === state.chosen), onclick: () => { state.chosen = one.name; paint(); } }, `${one.passed ? "✓" : "✗"} ${one.name}`)))));
  paintWrong(state.error ? null : list.find((one) => one.name === state.chosen));
}

function ruleOf(one) {
  return has(`rule.${one.key}`) ? t(`rule.${one.key}`) : one.rule;
}

function paintWrong(one) {
  if (!one) return $("wrong").replaceChildren(h("p.note", {}, state.results ? t("ui.allpassed") : ""));
  const content = [h("h3", {}, `${one.passed ? "✓" : "✗"} ${one.name}`), h("p.input", {}, h("code", {}, `${one.direction} ${one.input}`))];
  if (one.rule) content.push(h("p.lead", {}, ruleOf(one)));
  if (one.fields?.length) content.push(h("p", {}, `${t("ui.differs")}: `, h("b", {}, one.fields.join(", "))));
  if (one.ranges.length) content.push(h("h4", {}, t("ui.expected")), rows(one.expected, one.ranges, "right"), h("h4", {}, t("ui.got")), rows(one.got, one.ranges, "wrong"));
  else if (!one.passed) content.push(h("p", {}, `${t("ui.expected")}: `, h("b", {}, one.expected)), h("p", {}, `${t("ui.got")}: `, h("b.wrong", {}, one.got)), h("h4", {}, t("ui.input")), rows(one.input_hex, [], ""));
  else content.push(h("h4", {}, t("ui.input")), rows(one.input_hex, [], ""));
  return $("wrong").replaceChildren(...content);
}

// Bytes in rows of an IPv4 header's length, each row with its offset; those in the ranges are marked.
function rows(hex, ranges, kind) {
  const bytes = hex.match(/../g) ?? [], marked = (i) => ranges.some(([at, length]) => i >= at && i < at + length);
  const lines = [];
  for (let at = 0; at < bytes.length; at += COLUMNS / 2) lines.push(h("span", {}, h("i", {}, String(at).padStart(4)), ...bytes.slice(at, at + COLUMNS / 2).flatMap((byte, k) => [" ", marked(at + k) ? h(`b.${kind}`, {}, byte) : byte])));
  return h("pre.hexes", { tabindex: 0 }, ...lines);
}
