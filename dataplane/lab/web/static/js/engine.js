// Your engine: an editor at the left, golden packets in the middle, what went wrong at the right. Python runs in a worker,
// so that a loop without an end can be ended.

import { $, download, h } from "./dom.js";
import { t } from "./words.js";

const SECONDS = 20;
const state = { source: "", starter: "", results: null, error: "", chosen: null, worker: null, ready: false, status: "", available: false, base: "engine/" };

export function engineView(description) {
  state.starter = description.source ?? "";
  state.available = Boolean(description.pyodide) && location.protocol.startsWith("http");
  state.worker_url = description.worker ?? "static/js/engine-worker.js";
  state.source ||= saved() ?? state.starter;
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
  $("body").replaceChildren(h("section.controls.band", {}, button("judge", judge, "main"), button("halt", halt), button("restart", () => { editor.value = state.source = state.starter; keep(); count(); }), button("savefile", () => download("mine.py", state.source, "text/x-python")), h("span", { id: "enginestatus", role: "status" }, state.status)), h("section.panels.engine", {}, h("article.panel.editor", {}, numbers, editor), h("article.panel", { id: "golden", tabindex: -1 }), h("article.panel", { id: "wrong" })));
  if (!state.available) say(t(location.protocol === "file:" ? "ui.enginedisk" : "ui.nopyodide"));
  $("engine-judge").disabled = !state.available;
  paint();
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

function say(text) {
  state.status = text;
  if ($("enginestatus")) $("enginestatus").textContent = text;
}

function halt() {
  state.worker?.terminate();
  state.worker = null;
  clearTimeout(state.timer);
  say(t("ui.halted"));
}

function judge() {
  if (!state.available) return;
  const began = performance.now();
  if (!state.worker) {
    state.worker = new Worker(state.worker_url, { type: "module" });
    state.worker.onerror = (event) => {
      say(t("bad.engine", { why: event.message ?? "" }));
      state.worker = null;
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
    state.chosen = state.results?.findIndex((one) => !one.ok) ?? -1;
    const passed = state.results?.filter((one) => one.ok).length ?? 0;
    say(data.error ? data.error : t("ui.judged", { passed, n: state.results.length, ms: Math.round(performance.now() - began) }));
    paint();
  };
  state.worker.postMessage({ source: state.source, base: new URL(state.base, document.baseURI).href });
}

function paint() {
  if (state.error) $("golden").replaceChildren(h("p.verdict", {}, `✗ ${state.error}`));
  else if (!state.results) $("golden").replaceChildren(h("h3", {}, t("ui.golden")), h("p.note", {}, t("ui.goldenhint")));
  else $("golden").replaceChildren(h("h3", {}, t("ui.golden")), h("ol.golden", {}, ...state.results.map((one, i) => h("li", {}, h("button", { type: "button", class: one.ok ? "passed" : "failed", "aria-pressed": String(i === state.chosen), onclick: () => { state.chosen = i; paint(); } }, `${one.ok ? "✓" : "✗"} ${one.name}`)))));
  paintWrong(state.error ? null : state.results?.[state.chosen]);
}

function paintWrong(one) {
  if (!one) return $("wrong").replaceChildren(h("p.note", {}, state.results ? t("ui.allpassed") : ""));
  const content = [h("h3", {}, one.name)];
  if (one.error) content.push(h("p.verdict", {}, one.error));
  if (one.hint) content.push(h("p.lead", {}, t(`rule.${one.hint}`)));
  for (const key of one.wrong ?? []) if (key !== "bytes") content.push(h("p", {}, `${t(`ui.${key}`)}: ${t("ui.expected")} `, h("b", {}, String(one.expected[key])), `, ${t("ui.got")} `, h("b.wrong", {}, String(one.got[key]))));
  content.push(...bytesOf(one));
  return $("wrong").replaceChildren(...content);
}

// Two byte grids, expected over got; a golden packet brings its dissection.
function bytesOf(one) {
  if (one.ok || !one.got) return [h("pre", {}, pairs(one.expected.bytes))];
  return [h("h4", {}, t("ui.expected")), h("pre.hexes", {}, pairs(one.expected.bytes)), h("h4", {}, t("ui.got")), h("pre.hexes", {}, ...different(one.expected.bytes, one.got.bytes))];
}

function pairs(hex) {
  return hex.match(/(..){1,20}/g)?.map((row) => row.match(/../g).join(" ")).join("\n") ?? "";
}

function different(right, mine) {
  const bytes = mine.match(/../g) ?? [], good = right.match(/../g) ?? [];
  return bytes.flatMap((byte, i) => [good[i] === byte ? byte : h("b.wrong", {}, byte), (i + 1) % 20 ? " " : "\n"]);
}

