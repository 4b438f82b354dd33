// The texts of the page, in the language that was chosen; what a language lacks is shown in English.
//
// A language is two files: page.LANGUAGE.json for the page itself, LANGUAGE.json for the sentences of a walk.

import { h, rich } from "./dom.js";

const state = { languages: {}, chosen: "en" };

// languages: {en: {page: {...}, walk: {...}}, de: ...}
export function setLanguages(languages) {
  state.languages = languages;
}

export function languages() {
  return Object.entries(state.languages).map(([code, words]) => [code, words.page?.name ?? code]);
}

export function language() {
  return state.chosen;
}

export function setLanguage(code) {
  const known = Object.keys(state.languages);
  state.chosen = known.includes(code) ? code : known.includes(code?.slice(0, 2)) ? code.slice(0, 2) : "en";
  document.documentElement.lang = state.chosen;
}

export function fill(text, args = {}) {
  return text.replace(/\{(\w+)\}/g, (_, key) => args[key] ?? "?");
}

function look(file, ...path) {
  for (const code of [state.chosen, "en"]) {
    let found = state.languages[code]?.[file];
    for (const key of path) found = found?.[key];
    if (found != null) return found;
  }
  return undefined;
}

// A text of the page: t("ui.next"); what is unknown shows its key.
export function t(path, args) {
  const found = look("page", ...split(path));
  return typeof found === "string" ? fill(found, args) : (found ?? path.slice(path.indexOf(".") + 1));
}

export function has(path) {
  return look("page", ...split(path)) !== undefined;
}

// Keys may contain dots themselves, so only the first one divides.
function split(path) {
  const dot = path.indexOf(".");
  return dot < 0 ? [path] : [path.slice(0, dot), path.slice(dot + 1)];
}

// The title, sentence and question of a step. Sentences are those of every output of a walk; the page adds a heading and
// a question, by the longest beginning of the key that it knows: `socket.got` for `socket.got.icmp`.
export function sentence(key, args) {
  const text = look("walk", key), [ask, answer] = byBeginning("ask", key) ?? [];
  const filled = (template) => (template ? fill(template, args) : "");
  return { title: filled(byBeginning("title", key)) || key, text: filled(text), ask: filled(ask), answer: filled(answer) };
}

function byBeginning(group, key) {
  const parts = String(key).split(".");
  for (let n = parts.length; n; n--) {
    const found = look("page", group, parts.slice(0, n).join("."));
    if (found !== undefined) return found;
  }
  return undefined;
}

// A sentence of a walk by its key; empty where there is none.
export function walkWords(key, args) {
  const found = look("walk", key);
  return found ? fill(found, args) : "";
}

// What a check of the engine says: [heading, details].
export function checkText(check) {
  const { name, ok, args = {} } = check;
  const compared = Array.isArray(args.compared) ? args.compared.map((one) => `/${one.length}`).join(", ") : "";
  const sum = args.sum ? walkWords("check.lower.sum", args.sum) : "";
  const version = args.version === 6 && name === "lower" ? "check.lower6" : "";
  const said = walkWords(version || (ok ? `check.${name}` : `check.${name}.no`), { ...args, compared, sum });
  if (!said) return [name, Object.entries(args).filter(([, value]) => typeof value !== "object").map(([key, value]) => `${key} ${value}`).join(", ")];
  const colon = said.indexOf(": ");
  const heading = has(`check.${name}`) ? t(`check.${name}`)[ok ? 0 : 1] : said.slice(0, Math.max(colon, 0));
  const details = colon < 0 ? said : said.slice(colon + 2);
  // The arithmetic of the checksum has a place of its own.
  return [heading || name, name === "lower" ? details.split(". ")[0] : details];
}

// Where a fact comes from, as a dot and a word.
export function origin(kind) {
  if (!kind) return null;
  return h("span.origin", { title: t(`origins.${kind}`) }, h(`span.dot.${kind}`, { "aria-hidden": "true" }), t(`origin.${kind}`));
}

export function richText(text) {
  return rich(text);
}

export function plain(text) {
  return text.replaceAll("`", "");
}

export function number(n) {
  return Number(n).toLocaleString(state.chosen);
}
