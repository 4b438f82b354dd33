// Small tools for the page's elements. Text from a lab or a recording goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export function $(id) {
  return document.getElementById(id);
}

// An HTML element: h("p.note", {title: "…"}, "text", child). Event handlers are given as onclick and the like.
export function h(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  return fillIn(element, attributes, children);
}

// The same for SVG.
export function s(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElementNS(SVG, tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  return fillIn(element, attributes, children);
}

function fillIn(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else if (key === "dataset") Object.assign(element.dataset, value);
    else if (key === "class") element.setAttribute("class", value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

// A sentence with `code` and **words that matter** in it, as nodes.
export function rich(text) {
  return text.split(/(`[^`]*`|\*\*[^*`]+\*\*)/).map((part, i) => (i % 2 ? (part[0] === "`" ? h("code", {}, part.slice(1, -1)) : h("b", {}, part.slice(2, -2))) : part));
}

export function icon(path) {
  return s("svg.icon", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: path }));
}

// A group of buttons of which one is chosen: one Tab stop, arrow keys inside.
export function radios(box, items, chosen, pick) {
  const ids = items.map(([id]) => id);
  box.replaceChildren(
    ...items.map(([id, ...content]) =>
      h("button", { type: "button", role: "radio", "aria-checked": String(id === chosen), tabindex: id === chosen ? 0 : -1, dataset: { id }, onclick: () => pick(id) }, ...content),
    ),
  );
  if (!ids.includes(chosen) && box.firstChild) box.firstChild.tabIndex = 0;
  box.onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const next = ids[(ids.indexOf(chosen) + by + ids.length) % ids.length];
    pick(next);
    box.querySelector(`[data-id="${CSS.escape(next)}"]`)?.focus();
  };
}

export function download(name, content, type = "application/octet-stream") {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
