// On paper: the whole walk, a row for each step.

import { h, rich } from "./dom.js";
import { isBad } from "./map.js";
import { cellText, compare, fieldWords, layersOf } from "./packet.js";
import { outcomeText, stackBar } from "./panels.js";
import { before } from "./recording.js";
import { placeName } from "./walk.js";
import { sentence, t } from "./words.js";

export function handout(box, { recording, walk }) {
  if (!walk) return;
  box.replaceChildren(h("h2", {}, `${t("ui.handout")}: ${walk.ask ?? walk.id}`), h("p", {}, outcomeText(walk)), h("ol", {}, ...walk.steps.map((step, i) => item(recording, walk, step, i))));
}

function item(recording, walk, step, i) {
  const earlier = before(walk, i), layers = layersOf(step.packet), difference = compare(earlier && layersOf(earlier.packet), layers);
  const words = sentence(step.say, step.args), seen = recording.see[step.see?.[0]];
  const changes = [...difference.was].filter(([cell]) => cell.key !== "sum").map(([cell, was]) => h("p", {}, `▲ ${fieldWords(cell.layer, cell.fields[0])[1]}: ${cellText(was)} → ${cellText(cell)}`));
  return h("li", {}, h("span.n", {}, String(i + 1)), h("div", {}, h("p", {}, h("b", {}, rich(words.title)), `, ${placeName(step)}${isBad(step) ? ` ✗ ${step.verdict}` : ""}`), stackBar(layers, difference), h("p", {}, rich(words.text)), ...changes, seen ? h("code.cmd", {}, `${seen.in ?? ""}$ ${seen.cmd}`) : null));
}
