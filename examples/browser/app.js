// A page that answers from an exported model: first it proves that it may, then it is asked.
import { compare, openForecaster } from "./forecaster.js";

const at = (id) => document.getElementById(id);
const folder = new URLSearchParams(location.search).get("model") ?? "model";

function row(columns, place) {
  return Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values.slice(place, place + 1)]));
}

function start(forecaster) {
  const asked = ["mean_28", "promotion", "weekday"];

  async function say() {
    const one = row(forecaster.holdout, at("row").value - 1);
    for (const name of asked) one[name] = Float32Array.of(at(name).value === "" ? NaN : Number(at(name).value));
    const { mean } = await forecaster.ask(one);
    at("answer").textContent = `${mean[0].toFixed(2)} units`;
    at("answer").dataset.mean = mean[0];
  }

  function show() {
    const one = row(forecaster.holdout, at("row").value - 1);
    for (const name of asked) at(name).value = Number.isNaN(one[name][0]) ? "" : one[name][0];
    return say();
  }

  at("row").max = forecaster.holdout.expected_mean.length;
  at("row").addEventListener("input", show);
  for (const name of asked) at(name).addEventListener("input", say);
  at("question").hidden = false;
  return show();
}

try {
  const forecaster = await openForecaster(folder);
  const found = compare(await forecaster.ask(forecaster.holdout), forecaster);
  const equal = found.wrong === 0;
  Object.assign(at("proof").dataset, { equal: equal ? "yes" : "no", ...found });
  const rows = `${found.rows.toLocaleString("en")} rows of its holdout`;
  at("proof").textContent = equal
    ? `${forecaster.about.model_version} answers here as it does at home, on ${rows}.`
    : `${forecaster.about.model_version} answers otherwise here on ${found.wrong.toLocaleString("en")} of ${rows}, so it is not asked.`;
  if (equal) await start(forecaster);
} catch (error) {
  at("proof").dataset.equal = "no";
  at("proof").textContent = `There is no model to ask: ${error.message}.`;
}
