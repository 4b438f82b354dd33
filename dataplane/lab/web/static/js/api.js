// Talking to the server of a standing lab. An error is an Error with a sentence for people.

import { t } from "./words.js";

async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, { method, body: body === undefined ? undefined : JSON.stringify(body), headers: body === undefined ? {} : { "content-type": "application/json" } });
  } catch {
    throw new Error(t("bad.server"));
  }
  const document = (answer.headers.get("content-type") ?? "").includes("json") ? await answer.json() : null;
  if (!answer.ok) throw new Error(document?.error ?? `${answer.status} ${answer.statusText}`);
  return document;
}

export function get(path) {
  return ask("GET", path);
}

export function post(path, body = {}) {
  return ask("POST", path, body);
}

export function remove(path) {
  return ask("DELETE", path);
}
