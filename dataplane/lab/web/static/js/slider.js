// The band of controls: buttons, the slider that is a chart of the packet's size, the count of steps.

import { $, h, icon } from "./dom.js";
import { isBad } from "./map.js";
import { layersOf } from "./packet.js";
import { legName } from "./recording.js";
import { t } from "./words.js";

const ICONS = { first: "M3 3v10M13 3L6 8l7 5z", prev: "M12 3L4 8l8 5z", next: "M4 3l8 5-8 5z", last: "M13 3v10M3 3l7 5-7 5z", play: "M4 3l8 5-8 5z", pause: "M4 3v10M11 3v10" };

export function buildControls(box, go) {
  const button = (name) => h("button", { type: "button", "data-go": name, "aria-label": t(`ui.${name}`), title: t(`ui.${name}`), onclick: () => go(name) }, icon(ICONS[name]));
  const play = h("button.play", { type: "button", id: "play", onclick: () => go("play") });
  const slider = h("input", { type: "range", id: "slider", min: 1, step: 1, "aria-label": t("ui.walk") });
  slider.addEventListener("input", () => go(Number(slider.value) - 1));
  box.replaceChildren(h("div.buttons", {}, button("first"), button("prev"), play, button("next"), button("last")), h("div.track", {}, h("div.ticks", { id: "ticks", "aria-hidden": "true" }), slider), h("output", { id: "count", for: "slider" }));
  paintPlay(false);
}

export function paintPlay(playing) {
  const name = playing ? "pause" : "play";
  $("play").replaceChildren(icon(ICONS[name]), h("span", {}, ` ${t(`ui.${name}`)}`));
  $("play").setAttribute("aria-label", t(`ui.${name}`));
}

// A bar for each step, as high as the packet is long.
export function buildTicks(walk, go, title) {
  const sizes = walk.steps.map((step) => step.packet.len), high = Math.max(...sizes), low = Math.min(...sizes);
  $("ticks").parentElement.style.setProperty("--n", walk.steps.length);
  $("ticks").replaceChildren(
    ...walk.steps.map((step, i) => {
      const tick = h("span", { title: title(i), style: { "--h": (step.packet.len - low) / (high - low || 1) }, onclick: () => go(i) });
      if (walk.marks[i]) tick.append(h("i", {}, String(walk.marks[i])));
      return tick;
    }),
  );
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
  $("count").replaceChildren(h("b", {}, t("ui.step", { n: at + 1, total: n })), h("small", {}, `${legName(walk, step.leg)} · ${layersOf(step.packet).length}`));
  $("count").lastChild.textContent = legName(walk, step.leg);
}
