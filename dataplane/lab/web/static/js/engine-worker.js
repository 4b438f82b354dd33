// Python beside the page: golden packets judge a student's file, by the code that `udplane lab golden` runs.

let python = null;

const JUDGE = `
import json
from pathlib import Path
from dataplane.engines.own import OwnError
from dataplane.lab import golden
from dataplane.lab.dissect import dissect

def judged(source):
    file = Path("/tmp/mine.py")
    file.write_text(source)
    file.chmod(0o600)
    try:
        return json.dumps({"results": [shown(result) for result in golden.judge(file)]})
    except OwnError as error:
        return json.dumps({"error": str(error)})

def shown(result):
    document = result.document()
    if result.ranges:
        document["fields"] = list(differing_fields(result))
    return document

def differing_fields(result):
    for layer in dissect(bytes.fromhex(result.expected), "ip"):
        for field in layer.fields:
            first = layer.offset + field.at // 8
            last = layer.offset + (field.at + field.bits - 1) // 8
            if any(at <= last and at + length > first for at, length in result.ranges):
                yield f"{layer.name} {field.key}"
`;

async function start(base) {
  const { loadPyodide } = await import(`${base}pyodide/pyodide.mjs`);
  const made = await loadPyodide({ indexURL: `${base}pyodide/` });
  const answer = await fetch(`${base}udplane.zip`);
  if (!answer.ok) throw new Error(`udplane.zip: ${answer.status}`);
  made.unpackArchive(await answer.arrayBuffer(), "zip");
  made.runPython(JUDGE);
  return made;
}

onmessage = async ({ data }) => {
  try {
    python ??= await start(data.base);
    postMessage({ ready: true });
    python.globals.set("source", data.source);
    postMessage(JSON.parse(python.runPython("judged(source)")));
  } catch (error) {
    postMessage({ error: String(error.message ?? error).trim().split("\n").pop() });
  }
};
