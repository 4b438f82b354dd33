// The band of controls: buttons, the slider that is a chart of the packet's size, the count of steps.

import { $, h, icon } from "./dom.js";
import { isBad } from "./map.js";
import { legName } from "./recording.js";
import { t } from "./words.js";

const ICONS = { first: "M3 3v10M13 3L6 8l7 5z", prev: "M12 3L4 8l8 5z", next: "M4 3l8 5-8 5z", last: "M13 3v10M3 3l7 5-7 5z", play: "M4 3l8 5-8 5z", pause: "M4 3v10M11 3v10" };

export function buildControls(box, go) {
  const button = (name) => h("button", { type: "button", "data-go": name, "aria-label": t(`ui.${name}`), title: t(`ui.${name}`), onclick: () => go(name) }, icon(ICONS[name]));
  const play = h("button.play", { type: "button", id: "play", onclick: () => go("play") });
  const slider = h("input", { type: "range", id: "slider", min: 1, step: 1, "aria-label": t("ui.walk") });
  slider.addEventListener("input", () => go(Number(slider.value) - 1));
  box.replaceChildren(h("div.buttons", {}, button("first"), button("prev"), play, button("next"), button("last")), h("div.track", {}, h("div.ticks", { id: "ticks", "aria-hidden": "true" }), slider), h("div.counted", {}, h("output", { id: "count", for: "slider" }), h("select", { id: "leg", "aria-label": t("ui.leg") })));
  paintPlay(false);
}

export function paintPlay(playing) {
  const name = playing ? "pause" : "play";
  $("play").replaceChildren(icon(ICONS[name]), h("span", {}, ` ${t(`ui.${name}`)}`));
  $("play").setAttribute("aria-label", t(`ui.${name}`));
}

// Numbers of stations that fit beside each other, and steps from which on their bars touch.
const MARKS = 70;
const FINE = 160;

// A bar for each step, as high as the packet is long.
export function buildTicks(walk, go, title) {
  const sizes = walk.steps.map((step) => step.packet.len), high = Math.max(...sizes), low = Math.min(...sizes);
  $("ticks").parentElement.style.setProperty("--n", walk.steps.length);
  $("ticks").classList.toggle("fine", sizes.length > FINE);
  let last = -Infinity;
  const fits = (i) => i - last >= sizes.length / MARKS && (last = i) === i;
  $("ticks").replaceChildren(
    ...walk.steps.map((step, i) => {
      const tick = h("span", { title: title(i), style: { "--h": (step.packet.len - low) / (high - low || 1) }, onclick: () => go(i) });
      if (walk.marks[i] && fits(i)) tick.append(h("i", {}, String(walk.marks[i])));
      return tick;
    }),
  );
}

// The legs of a walk: there and back, its fragments, the ICMP errors about it. Choosing one goes to its first step.
export function buildLegs(walk, go) {
  const ids = [...new Set(walk.steps.map((step) => step.leg))], pick = $("leg");
  pick.replaceChildren(...ids.map((id) => h("option", { value: id }, legName(walk, id))));
  pick.disabled = ids.length < 2;
  pick.onchange = () => go(walk.steps.findIndex((step) => step.leg === pick.value));
}

export function paintControls(walk, at, place) {
  const n = walk.steps.length, step = walk.steps[at], slider = $("slider");
  slider.max = n;
  slider.value = at + 1;
  slider.setAttribute("aria-valuetext", `${t("ui.step", { n: at + 1, total: n })}: ${place}`);
  [...$("ticks").children].forEach((tick, i) => {
    const fresh = i > 0 && walk.steps[i].leg !== walk.steps[i - 1].leg;
    tick.className = [i <= at ? "seen" : "", i === at ? "here" : "", isBad(walk.steps[i]) ? "bad" : "", fresh ? "leg" : ""].join(" ");
  });
  $("count").replaceChildren(h("b", {}, t("ui.step", { n: at + 1, total: n })));
  $("leg").value = step.leg;
}
