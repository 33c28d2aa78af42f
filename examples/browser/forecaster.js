// The exported model in a page: what it is asked are columns, what it answers are units.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1;  // more would need headers that a plain file server does not send
ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;

async function fetched(folder, name) {
  const answer = await fetch(`${folder}/${name}`);
  if (!answer.ok) throw new Error(`${folder}/${name} is not there (${answer.status})`);
  return answer;
}

// A line's fields; some stand in quotation marks.
function fields(line) {
  const found = [];
  let field = "", quoted = false;
  for (const sign of line) {
    if (sign === '"') quoted = !quoted;
    else if (sign === "," && !quoted) { found.push(field); field = ""; }
    else field += sign;
  }
  return [...found, field];
}

async function readHoldout(folder, about) {
  const packed = (await fetched(folder, "holdout.csv.gz")).body;
  const text = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
  const [head, ...rows] = text.trimEnd().split("\n").map(fields);
  return Object.fromEntries(head.map((name, place) => {
    const values = rows.map((row) => row[place]);
    if (about.text.includes(name)) return [name, values];
    return [name, Float32Array.from(values, (value) => (value === "" ? NaN : Number(value)))];
  }));
}

export async function openForecaster(folder) {
  const about = await (await fetched(folder, "export.json")).json();
  const graph = await (await fetched(folder, "forecaster.onnx")).arrayBuffer();
  const session = await ort.InferenceSession.create(graph);
  const holdout = await readHoldout(folder, about);

  async function ask(columns) {
    const feeds = {};
    for (const name of about.inputs) {
      const kind = about.text.includes(name) ? "string" : "float32";
      feeds[name] = new ort.Tensor(kind, columns[name], [columns[name].length]);
    }
    const said = await session.run(feeds);
    return Object.fromEntries(about.answers.map((name) => [name, said[name].data]));
  }

  return { about, holdout, ask };
}

// How far answers are from those that travelled, as check.py says it.
export function compare(answers, { about, holdout }) {
  const found = { rows: 0, wrong: 0, worst: 0 };
  const rows = holdout[`expected_${about.answers[0]}`].length;
  for (let row = 0; row < rows; row++) {
    const apart = about.answers.map((name) => {
      const expected = holdout[`expected_${name}`][row];
      return Math.abs(answers[name][row] - expected) / Math.max(Math.abs(expected), about.small);
    });
    const most = apart.some(Number.isNaN) ? Infinity : Math.max(...apart);
    found.rows += 1;
    found.wrong += most > about.most_apart ? 1 : 0;
    found.worst = Math.max(found.worst, most);
  }
  return found;
}
