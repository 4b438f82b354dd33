// The line that sends one packet and records its way.

import { h } from "./dom.js";
import { post } from "./api.js";
import { t } from "./words.js";

export function walkForm(lab, walked, message) {
  const names = [...(lab.pods ?? []), ...lab.nodes, ...(lab.hosts ?? [])].map((one) => one.name);
  const choose = (name, list, chosen) => h("select", { name, "aria-label": t(`ui.${name}`) }, ...list.map((one) => h("option", { value: one, selected: one === chosen }, one)));
  const field = (name, placeholder, max) => h("input", { name, type: "number", min: 0, max, placeholder, "aria-label": placeholder });
  const pods = (lab.pods ?? []).map((pod) => pod.name);
  const button = h("button.main", { type: "submit" }, t("ui.send"));
  const form = h("form.walkform", { "aria-label": t("ui.walknow") }, h("b", {}, t("ui.walknow")), choose("from", names, pods[0]), "→", choose("to", names, pods.at(-1)), choose("proto", ["icmp", "udp", "tcp"], "icmp"), field("size", t("ui.size"), 65507), field("ttl", "TTL", 255), h("label", {}, h("input", { type: "checkbox", name: "ipv6" }), " IPv6"), button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = (name) => (form.elements[name].value === "" ? undefined : Number(form.elements[name].value));
    button.disabled = true;
    try {
      walked(await post("api/walks", { from: form.elements.from.value, to: form.elements.to.value, proto: form.elements.proto.value, size: value("size"), ttl: value("ttl"), ipv6: form.elements.ipv6.checked || undefined }));
    } catch (error) {
      message(error.message);
    } finally {
      button.disabled = false;
    }
  });
  return form;
}
