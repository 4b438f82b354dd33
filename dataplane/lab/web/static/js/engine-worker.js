// Python beside the page: the textbook engine as it is, a student's engine, and the golden packets between them.

let python = null;

async function start(base) {
  const { loadPyodide } = await import(`${base}pyodide/pyodide.mjs`);
  const made = await loadPyodide({ indexURL: `${base}pyodide/` });
  const [archive, golden] = await Promise.all(["udplane.zip", "golden.json"].map(async (name) => {
    const answer = await fetch(base + name);
    if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
    return answer;
  }));
  made.unpackArchive(await archive.arrayBuffer(), "zip");
  made.globals.set("golden", await golden.text());
  made.runPython("import json\nfrom dataplane.lab.web.judge import judge\ncases = json.loads(golden)");
  return made;
}

onmessage = async ({ data }) => {
  try {
    python ??= await start(data.base);
    postMessage({ ready: true });
    python.globals.set("source", data.source);
    postMessage(JSON.parse(python.runPython("json.dumps(judge(source, cases))")));
  } catch (error) {
    postMessage({ error: String(error.message ?? error).trim().split("\n").pop() });
  }
};
