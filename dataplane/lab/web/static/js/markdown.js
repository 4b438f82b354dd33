// The Markdown of exercises, of which they use little: paragraphs, headings, lists, drawings and code.

import { h, rich } from "./dom.js";

export function markdown(text) {
  const parts = [];
  let fenced = null;
  for (const part of String(text ?? "").replace(/^\n+|\s+$/g, "").split(/\n{2,}/)) {
    if (fenced) fenced.push("", part);
    else if (part.startsWith("```")) fenced = [part];
    else parts.push(part);
    if (fenced && /\n?```$/.test(fenced.join("\n").slice(3))) {
      parts.push(fenced.join("\n"));
      fenced = null;
    }
  }
  return [...parts, ...(fenced ? [fenced.join("\n")] : [])].filter((part) => !part.startsWith("# ")).map(block);
}

function block(part) {
  const lines = part.split("\n");
  if (part.startsWith("```")) return h("pre.term", { tabindex: 0 }, lines.slice(1).filter((line) => !line.startsWith("```")).join("\n"));
  if (lines.every((line) => line.startsWith("    "))) return h("pre.term", { tabindex: 0 }, lines.map((line) => line.slice(4)).join("\n"));
  if (part.startsWith("#")) return h("h3", {}, part.replace(/^#+ /, ""));
  if (/^(- |\d+\. )/.test(part)) return list(lines, /^\d/.test(part) ? "ol" : "ul");
  return h("p", {}, rich(lines.join(" ")));
}

function list(lines, kind) {
  const items = [];
  for (const line of lines) {
    if (/^(- |\d+\. )/.test(line)) items.push(line.replace(/^(- |\d+\. )/, ""));
    else items.push(`${items.pop()} ${line.trim()}`);
  }
  return h(kind, {}, ...items.map((item) => h("li", {}, rich(item))));
}
