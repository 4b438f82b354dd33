// Exercises: goal and steps at the left, checks in the middle, hints at the right.

import { $, h, rich } from "./dom.js";
import { get, post } from "./api.js";
import { mapElement } from "./map.js";
import { markdown } from "./markdown.js";
import { t } from "./words.js";

const state = { list: null, chosen: null, checked: null, at: 0, hints: [], answers: {}, busy: false, message: () => {}, locate: () => {} };

export function exercisesView(handlers) {
  Object.assign(state, handlers);
  state.chosen ??= handlers.chosen;
  return { show, leave: () => {} };
}

async function show() {
  state.draw();
  $("body").replaceChildren(h("section.controls.band", { id: "exercisebar" }), h("section.panels", {}, h("article.panel", { id: "goal", tabindex: -1 }), h("article.panel", { id: "checks" }), h("article.panel", { id: "hints" })));
  try {
    state.list ??= (await get("api/exercises")).exercises;
    paint();
  } catch (error) {
    $("goal").replaceChildren(h("p.verdict", {}, error.message));
  }
}

function chosen() {
  return state.list.find((one) => String(one.number) === state.chosen);
}

function paint() {
  const one = chosen();
  const pick = h("select", { id: "exercise", "aria-label": t("view.exercises") }, h("option", { value: "" }, t("ui.pickexercise")), ...state.list.map((item) => h("option", { value: item.number, selected: String(item.number) === state.chosen }, `${item.number}  ${item.title} (${t("ui.minutes", { n: item.minutes ?? "?" })})${mark(item)}`)));
  pick.addEventListener("change", () => choose(pick.value));
  const button = (verb, kind = "") => h("button", { type: "button", class: kind, disabled: !one || state.busy, "data-verb": verb, onclick: () => act(verb) }, t(`ui.${verb}`));
  $("exercisebar").replaceChildren(pick, button("start"), button("check", "main"), button("hint"), button("reset"), button("solve"), h("span", { role: "status" }, state.busy ? t("ui.working") : ""));
  paintGoal(one);
  paintChecks();
  $("hints").replaceChildren(h("h3", {}, t("ui.hints")), ...state.hints.map((text, i) => h("details.ask", { open: i === state.hints.length - 1 }, h("summary", {}, t("ui.hintn", { n: i + 1 })), h("p", {}, rich(text)))), state.hints.length ? "" : h("p.note", {}, t("ui.nohints")));
}

function choose(number) {
  state.chosen = number || null;
  state.checked = null;
  state.hints = [];
  paint();
}

function mark(one) {
  return one.steps?.length && one.solved?.length === one.steps.length ? " ✓" : "";
}

function paintGoal(one) {
  if (!one) {
    const link = (item) => h("li", { value: item.number }, h("button.link", { type: "button", onclick: () => choose(String(item.number)) }, item.title), ` ${t("ui.minutes", { n: item.minutes ?? "?" })}${mark(item)}`);
    $("goal").replaceChildren(h("h2", {}, t("view.exercises")), h("ol.exercises", {}, ...state.list.map(link)));
    return;
  }
  const solved = new Set(one.solved ?? []);
  const now = (one.steps ?? []).findIndex((_, i) => !solved.has(i + 1));
  const step = (item, i) => h("li", { class: i === now ? "now" : "" }, h("b", {}, `${solved.has(i + 1) ? "✓ " : ""}${item.title}`), i === now || now < 0 ? h("div", {}, ...markdown(item.text)) : "");
  $("goal").replaceChildren(h("h2", {}, `${one.number}  ${one.title}`), h("p.lead", {}, rich(one.goal ?? "")), h("p.note", {}, t("ui.minutes", { n: one.minutes })), h("ol.steps", {}, ...(one.steps ?? []).map(step)), h("div.text", {}, ...markdown(one.text)));
}

async function act(verb) {
  if (["start", "reset", "solve"].includes(verb) && !confirm(t("ui.anew"))) return undefined;
  state.busy = true;
  paint();
  try {
    const answer = await post(`api/exercises/${state.chosen}/${verb}`, { answers: verb === "check" ? state.answers : undefined });
    if (answer.again) return await again();
    if (verb === "check") {
      state.checked = answer;
      state.at = Date.now();
      state.list = (await get("api/exercises")).exercises;
    } else state.hints = answer.hints ?? [];
  } catch (error) {
    state.message(error.message);
  }
  state.busy = false;
  paint();
  return undefined;
}

// The lab is made anew, and another server answers for it: wait for that, then begin again with what stands.
async function again() {
  for (let tries = 0; tries < 240; tries++) {
    await new Promise((done) => setTimeout(done, 500));
    try {
      await get("api/lab");
      return state.refresh(state.chosen);
    } catch {
      // Not yet.
    }
  }
  state.busy = false;
  state.message(t("bad.server"));
  paint();
  return undefined;
}

function paintChecks() {
  const steps = Object.entries(state.checked?.steps ?? {});
  const ago = state.checked ? h("span.soft", {}, t("ui.ago", { n: Math.round((Date.now() - state.at) / 1000) })) : "";
  const one = chosen();
  const lists = steps.map(([number, findings]) => h("div", {}, h("h3", {}, `${number}. ${one?.steps?.[number - 1]?.title ?? ""}`), h("ol.checks", {}, ...findings.map(item))));
  $("checks").replaceChildren(h("h3", {}, t("ui.checklist"), ago), ...(lists.length ? lists : [h("p.note", {}, t("ui.notchecked"))]));
  const failed = steps.flatMap(([, findings]) => findings).filter((finding) => !finding.ok).map((finding) => `${finding.say} ${finding.look}`).join(" ");
  for (const group of mapElement()?.querySelectorAll(".station") ?? []) {
    const [where, place] = group.dataset.key.split("/");
    group.classList.toggle("flag", new RegExp(`\\b${where}\\b`).test(failed) && ["route", "socket"].includes(place));
  }
}

// A question that wants an answer from the student: the next check takes it along.
function answerField(name) {
  const input = h("input", { type: "text", value: state.answers[name] ?? "", "aria-label": t("ui.answer", { name }) });
  input.addEventListener("input", () => (state.answers[name] = input.value));
  input.addEventListener("keydown", (event) => event.key === "Enter" && act("check"));
  return h("label.question", {}, `${t("ui.answer", { name })} `, input);
}

function item(one) {
  const said = [one.expected ? `${t("ui.expected")}: ${one.expected}` : "", one.got ? `${t("ui.got")}: ${one.got}` : ""].filter(Boolean).join("; ");
  const details = one.ok ? "" : h("small", {}, ` ${said}`);
  const asked = `${one.got} ${one.look} ${one.hint}`.match(/--answer (\w+)=/)?.[1];
  return h(one.ok ? "li" : "li.no", {}, h("span.mark", {}, one.ok ? "✓" : "✗"), h("span", {}, h("b", {}, rich(one.say ?? "")), details, !one.ok && one.look ? h("p", {}, rich(`${t("ui.lookat")}: ${one.look}`)) : "", !one.ok && one.hint ? h("p.soft", {}, rich(one.hint)) : "", asked ? answerField(asked) : ""));
}
