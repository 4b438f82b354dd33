// Exercises without a lab: their recorded walks, questions that the page itself judges, hints, the editor for one's engine.

import { $, h, rich } from "./dom.js";
import { golden } from "./engine.js";
import { clearStep, drawMap, onMap, zoom } from "./map.js";
import { sha256 } from "./sha256.js";
import { markdown } from "./markdown.js";
import { t } from "./words.js";

const state = { list: [], chosen: null, step: 0, findings: {}, busy: false, walked: () => {}, engine: () => {} };

export function readingView(handlers) {
  Object.assign(state, handlers);
  return { show, leave: () => {} };
}

// What a student has done so far, kept by the browser where it keeps things.
const kept = new Map();

function progress(one) {
  if (!kept.has(one.name)) {
    let found = {};
    try {
      found = JSON.parse(localStorage.getItem(`udplane.exercise.${one.name}`)) ?? {};
    } catch {
      // Without storage it lives as long as the page.
    }
    kept.set(one.name, { answers: {}, solved: [], hints: {}, ...found });
  }
  return kept.get(one.name);
}

function keep(one) {
  try {
    localStorage.setItem(`udplane.exercise.${one.name}`, JSON.stringify(progress(one)));
  } catch {
    // As above.
  }
}

function chosen() {
  return state.list.find((one) => one.number === state.chosen);
}

const doable = (check) => ["answer", "golden"].includes(check.kind);

function show({ exercise } = {}) {
  if (exercise) state.chosen = Number(exercise);
  $("body").replaceChildren(h("section.controls.band", { id: "exercisebar" }), h("section.panels", {}, h("article.panel", { id: "goal", tabindex: -1 }), h("article.panel", { id: "checks" }), h("article.panel", { id: "hints" })));
  paint();
}

function choose(number) {
  state.chosen = number;
  state.findings = {};
  const one = chosen();
  const open = one ? one.steps.findIndex((_, i) => !progress(one).solved.includes(i)) : 0;
  state.step = Math.max(0, open);
  paint();
}

function paint() {
  const one = chosen();
  paintPicture(one);
  paintBar(one);
  paintGoal(one);
  paintChecks(one);
  paintHints(one);
}

function paintPicture(one) {
  if (!one?.walks.length) return $("scroll").replaceChildren();
  drawMap($("scroll"), one.walks[0].lab, { nodes: [], pods: [] });
  clearStep();
  zoom(true);
  return onMap({ visit: () => {}, link: () => {}, node: () => {} });
}

function paintBar(one) {
  const pick = h("select", { id: "exercise", "aria-label": t("view.exercises") }, h("option", { value: "" }, t("ui.pickexercise")), ...state.list.map((item) => h("option", { value: item.number, selected: item === one }, `${item.number}  ${item.title}${mark(item)}`)));
  pick.addEventListener("change", () => choose(Number(pick.value) || null));
  const ask = (walk) => (walk.walks[0].ask ?? "").replace(/^udplane lab walk /, "");
  const walks = (one?.walks ?? []).map((walk) => h("button", { type: "button", dataset: { walk: ask(walk) }, onclick: () => state.walked(walk) }, `${t("ui.openwalk")}: ${walk.walks.map((_, i) => ask({ walks: [walk.walks[i]] })).join(", ")}`));
  const editor = one?.steps.some((step) => step.checks.some((check) => check.kind === "golden")) ? h("button", { type: "button", id: "openengine", onclick: () => state.engine() }, t("view.engine")) : null;
  const canCheck = one && one.steps[state.step].checks.some(doable);
  const check = h("button.main", { type: "button", id: "check", disabled: !canCheck || state.busy, onclick: judge }, t("ui.check"));
  $("exercisebar").replaceChildren(...[pick, check, ...walks, editor, h("span", { role: "status", id: "exercisestatus" }, state.busy ? t("ui.working") : "")].filter(Boolean));
}

function mark(one) {
  return one.steps.every((step, i) => progress(one).solved.includes(i) || !step.checks.some(doable)) ? " ✓" : "";
}

function paintGoal(one) {
  if (!one) {
    const link = (item) => h("li", { value: item.number }, h("button.link", { type: "button", onclick: () => choose(item.number) }, item.title), ` ${t("ui.minutes", { n: item.minutes })}${mark(item)}`);
    $("goal").replaceChildren(h("h2", {}, t("view.exercises")), h("ol.exercises", {}, ...state.list.map(link)));
    return;
  }
  const { solved } = progress(one);
  const title = (step, i) => h("button.link", { type: "button", dataset: { step: i + 1 }, "aria-current": i === state.step ? "step" : null, onclick: () => { state.step = i; paint(); } }, `${solved.includes(i) ? "✓ " : ""}${step.title}`);
  const step = (item, i) => h("li", { class: i === state.step ? "now" : "" }, title(item, i), i === state.step ? h("div", {}, ...markdown(item.text)) : "");
  $("goal").replaceChildren(h("h2", {}, `${one.number}  ${one.title}`), h("p.lead", {}, rich(one.goal)), h("ol.steps", {}, ...one.steps.map(step)), h("details.ask.background", { open: state.step === 0 }, h("summary", {}, t("ui.background")), ...markdown(one.text)));
}

function paintChecks(one) {
  if (!one) return $("checks").replaceChildren(h("h3", {}, t("ui.nolab")), h("p", {}, rich(t("ui.nolabhint"))));
  const found = state.findings[state.step] ?? [];
  const items = one.steps[state.step].checks.map((check, i) => item(one, check, found[i]));
  const only = one.steps[state.step].checks.some(doable) ? "" : h("p.note", {}, t("ui.needslab"));
  const done = progress(one).solved.includes(state.step) ? h("p.verdict.fine", { role: "status" }, `✓ ${t("ui.solved")}`) : "";
  const next = progress(one).solved.includes(state.step) && state.step + 1 < one.steps.length ? h("button.main", { type: "button", id: "nextstep", onclick: () => { state.step += 1; paint(); } }, t("ui.nextstep")) : "";
  return $("checks").replaceChildren(h("h3", {}, t("ui.checklist")), only, h("ol.checks", {}, ...items), done, next);
}

function item(one, check, finding) {
  const state_ = !doable(check) ? "off" : finding ? (finding.ok ? "" : "no") : "asked";
  const sign = { off: "–", asked: "?", no: "✗", "": "✓" }[state_];
  const body = [h("b", {}, rich(check.say))];
  if (check.kind === "answer") body.push(answerField(one, check));
  if (state_ === "off") body.push(h("small", {}, ` ${t("ui.onlylab")}`));
  if (finding?.text) body.push(h("p", { class: finding.ok ? "soft" : "" }, rich(finding.text)));
  if (finding && !finding.ok && check.look) body.push(h("p.soft", {}, rich(check.kind === "golden" ? `${t("ui.lookat")}: ${t("view.engine")}` : `${t("ui.lookat")}: \`${check.look}\``)));
  return h("li", { class: state_ }, h("span.mark", {}, sign), h("span", {}, ...body));
}

function answerField(one, check) {
  const { answers } = progress(one);
  const input = h("input", { type: "text", name: check.name, value: answers[check.name] ?? "", autocomplete: "off", spellcheck: "false", "aria-label": check.say });
  input.addEventListener("input", () => {
    answers[check.name] = input.value;
    keep(one);
  });
  input.addEventListener("keydown", (event) => event.key === "Enter" && judge());
  return input;
}

// An answer without what people write in different ways: blanks, capitals, 0x, quotes. As `udplane lab check` does it.
export function plain(text) {
  const said = text.trim().replace(/^["'`.]+|["'`.]+$/g, "").toLowerCase().replace(/\s+/g, " ");
  return /^0x[0-9a-f]+$/.test(said) ? String(BigInt(said)) : said;
}

export function unveiled(text) {
  return new TextDecoder().decode(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)));
}

function judgeAnswer(one, check) {
  const said = progress(one).answers[check.name] ?? "";
  if (!said.trim()) return { ok: false, text: t("ui.noanswer") };
  const hash = sha256(`${check.salt}\n${plain(said)}`);
  if (check.is.includes(hash)) return { ok: true, text: "" };
  return { ok: false, text: check.wrong[hash] ? unveiled(check.wrong[hash]) : t("ui.notright") };
}

async function judgeGolden(check) {
  const { error, results } = await golden();
  if (error) return { ok: false, text: error };
  const mine = results.filter((result) => check.cases.includes(result.name)), wrong = mine.filter((result) => !result.passed);
  const text = t("ui.goldencount", { passed: mine.length - wrong.length, n: mine.length });
  return { ok: !wrong.length, text: wrong.length ? `${text} ${t("ui.firstwrong", { name: wrong[0].name })}` : text };
}

async function judge() {
  const one = chosen(), at = state.step, { checks } = one.steps[at];
  const again = document.activeElement?.name;
  state.busy = true;
  paintBar(one);
  const found = [];
  for (const check of checks) found.push(check.kind === "answer" ? judgeAnswer(one, check) : check.kind === "golden" ? await judgeGolden(check) : null);
  state.busy = false;
  state.findings[at] = found;
  const mine = progress(one), solved = found.every((finding) => !finding || finding.ok);
  if (solved && !mine.solved.includes(at)) mine.solved.push(at);
  keep(one);
  if (!$("exercisebar") || chosen() !== one) return;
  paint();
  if (again) document.querySelector(`#checks input[name="${CSS.escape(again)}"]`)?.focus();
}

// Drawers that open in order; the browser remembers which were.
function paintHints(one) {
  if (!one) return $("hints").replaceChildren();
  const mine = progress(one), opened = mine.hints[state.step] ?? 0;
  const drawers = one.steps[state.step].hints.map((hint, i) => {
    const box = h("details.ask", { dataset: { hint: i + 1 }, class: i > opened ? "ask shut" : "ask" }, h("summary", { "aria-disabled": i > opened ? "true" : null, onclick: (event) => i > (mine.hints[state.step] ?? 0) && event.preventDefault() }, t("ui.hintn", { n: i + 1 })));
    box.addEventListener("toggle", () => {
      if (!box.open || box.childElementCount > 1) return;
      box.append(...markdown(unveiled(hint)));
      mine.hints[state.step] = Math.max(mine.hints[state.step] ?? 0, i + 1);
      keep(one);
      const next = box.nextElementSibling;
      next?.classList.remove("shut");
      next?.querySelector("summary")?.removeAttribute("aria-disabled");
    });
    return box;
  });
  return $("hints").replaceChildren(h("h3", {}, t("ui.hints")), ...drawers, h("p.note", {}, t("ui.hintorder")));
}
