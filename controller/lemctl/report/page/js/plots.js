// The plots of cells and runs: which rows each is drawn from, and what its controls change.

function seriesAxis() {
  const backend = data.axes.findIndex((axis) => axis.name === "backend");
  if (backend >= 0) return backend;
  return data.axes.findIndex((axis, i) => i !== view.x && axis.values.length > 1 && axis.values.length <= 8);
}

const view = { x: 0, series: -1, metric: 0, scale: "auto", pareto: 0, latency: "e2e", backends: "" };

const seriesOf = (cell) => (view.series < 0 ? data.cells[cell].backend : data.cells[cell].axes[view.series]);

function seriesNames() {
  if (view.series >= 0) return data.axes[view.series].values;
  return [...new Set(data.cells.map((cell) => cell.backend))];
}

const spreads = (values) => { const known = values.filter((v) => v > 0); return known.length === values.length && Math.max(...known) / Math.min(...known) >= 12; };
const ticks = (values) => { const found = [...new Set(values)].sort((a, b) => a - b); return found.length <= 12 ? { values: found } : {}; };
const title = (metric) => { const { header, unit } = data.metrics[metric]; return header.includes("/") || !unit || unit === "1" ? header : `${header} (${unit})`; };
const metricAt = (name) => data.metrics.findIndex((metric) => metric.name === name);
const settingColumn = { head: "experiment", text: (row) => settingOf(row.cell) };
const nColumn = { head: "n ok/planned", text: (row) => nText(row.cell), isFigure: true };

function parameterPlot() {
  const axis = data.axes[view.x];
  if (!axis) return { absent: "nothing is swept: there is one experiment" };
  const cells = keptCells().filter((cell) => figure(cell, view.metric));
  if (!cells.length) return { absent: `no experiment has the figure ${data.metrics[view.metric]?.header ?? ""}` };
  const rows = cells.map((cell) => {
    const { axes } = data.cells[cell];
    const [, mean, half] = figure(cell, view.metric);
    const rest = axes.filter((_, i) => i !== view.x);
    return { cell, x: axis.numeric ? Number(axes[view.x]) : axes[view.x], y: mean, low: mean - (half ?? 0), high: mean + (half ?? 0), series: seriesOf(cell), group: rest.join("\u0001") };
  });
  const isLog = view.scale === "log" || (view.scale === "auto" && spreads(rows.map((row) => row.y)));
  if (isLog) {
    const least = Math.min(...rows.map((row) => row.y).filter((y) => y > 0));
    for (const row of rows) row.low = row.low > 0 ? row.low : least / 3;
  }
  const x = axis.numeric
    ? { type: "quantitative", title: axis.name, axis: ticks(rows.map((row) => row.x)), scale: { type: spreads(rows.map((row) => row.x)) ? "log" : "linear", zero: false, nice: false, padding: 16 } }
    : { type: "nominal", title: axis.name, scale: { type: "point" }, sort: axis.values };
  return {
    spec: "parameter",
    data: { rows },
    series: seriesNames(),
    encode: { x, y: { title: title(view.metric), scale: { type: isLog ? "log" : "linear", zero: !isLog, nice: !isLog, padding: isLog ? 12 : 0 } } },
    caption: `${title(view.metric)} by ${axis.name}: mean and 95 % interval; ${rows.length} experiments`,
    columns: [settingColumn, nColumn, { head: data.metrics[view.metric].header, text: (row) => withInterval(figure(row.cell, view.metric), view.metric), sort: (row) => row.y, isFigure: true }],
  };
}

function paretoPlot() {
  const chosen = data.pareto[view.pareto];
  const energy = metricAt("energy_per_output_token");
  if (!chosen || energy < 0) return { absent: reasonOf("energy_per_output_token") };
  const metric = metricAt(chosen.metric);
  const rows = keptCells().filter((cell) => chosen.standing[cell]).map((cell) => {
    const [e, y] = [figure(cell, energy), figure(cell, metric)];
    return { cell, x: e[1], x_low: e[1] - (e[2] ?? 0), x_high: e[1] + (e[2] ?? 0), y: y[1], y_low: y[1] - (y[2] ?? 0), y_high: y[1] + (y[2] ?? 0), series: seriesOf(cell), standing: chosen.standing[cell], more: chosen.standing[cell] };
  });
  if (!rows.length) return { absent: "no experiment has both figures" };
  const scaled = (values, lows) => (spreads(values) && lows.every((low) => low > 0) ? { type: "log", nice: false, padding: 14 } : { type: "linear", zero: false, nice: false, padding: 14 });
  const front = rows.filter((row) => row.standing === "front").sort((a, b) => a.x - b.x).map(({ x, y }) => ({ x, y }));
  return {
    spec: "pareto",
    // A line of one point draws nothing, and has an extent.
    data: { rows, front: front.length ? front : [{ x: rows[0].x, y: rows[0].y }] },
    series: seriesNames(),
    encode: {
      x: { title: "J per output token", scale: scaled(rows.map((r) => r.x), rows.map((r) => r.x_low)) },
      y: { title: title(metric), scale: scaled(rows.map((r) => r.y), rows.map((r) => r.y_low)) },
    },
    height: Math.min(440, Math.max(300, innerWidth * 0.7)),
    caption: `Energy against ${title(metric)}: ${front.length} of ${rows.length} experiments are on the front of the whole campaign; pale ones are dominated beyond both intervals`,
    columns: [settingColumn, nColumn,
      { head: "J/out token", text: (row) => withInterval(figure(row.cell, energy), energy), sort: (row) => row.x, isFigure: true },
      { head: data.metrics[metric].header, text: (row) => withInterval(figure(row.cell, metric), metric), sort: (row) => row.y, isFigure: true },
      { head: "standing", text: (row) => row.standing }],
  };
}

function reasonOf(metric) {
  return (data.absent[metric] ?? ["no result"]).join("; ");
}

const LATENCIES = { ttft: "time to first token", itl: "inter-token latency", tpot: "time per output token", e2e: "end-to-end latency", queue: "time in the engine's queue", prefill: "time from the queue's end to the first token" };

function latencyPlot() {
  const found = data.latencies.filter((one) => one.latency === view.latency && isKept(one.cell));
  if (!found.length) return { absent: "no distribution of this latency was kept: the engine told no such times, or the results are older than this lemctl" };
  const rows = found.flatMap((one) => one.percent.map((percent, i) => ({ cell: one.cell, percent, seconds: Math.max(one.seconds[i], 1e-6), series: seriesOf(one.cell), more: `${percent} % within ${shownSeconds(one.seconds[i])}` })));
  const at = (one, percent) => shownSeconds(one.seconds[one.percent.indexOf(percent)]);
  const requests = found.reduce((sum, one) => sum + one.requests, 0);
  const columns = [{ head: "experiment", text: (row) => settingOf(row.cell) }, { head: "percent", text: (row) => String(row.percent), sort: (row) => row.percent, isFigure: true }, { head: "seconds", text: (row) => shownSeconds(row.seconds), sort: (row) => row.seconds, isFigure: true }];
  const median = found.length === 1 ? `; median ${at(found[0], 50)}, p90 ${at(found[0], 90)}` : "";
  return { spec: "latency", data: { rows }, series: seriesNames(), caption: `${LATENCIES[view.latency]} of ${requests.toLocaleString("en-US")} requests, percentiles averaged over the runs of each experiment${median}`, columns };
}

const shownSeconds = (value) => (value >= 1 ? `${value.toFixed(2)} s` : `${Number((value * 1e3).toPrecision(3))} ms`);

function effectPlot(index) {
  const one = data.covariates[index];
  const metric = metricAt(one.figure);
  if (!one.points.length) return { absent: one.absent ?? "no repeats" };
  const rows = one.points.filter(([cell]) => isKept(cell)).map(([cell, x, y]) => ({ cell, x, y: y * 100, series: seriesOf(cell), more: `${number(x)} ${one.unit}: ${(y * 100).toFixed(2)} % from the mean` }));
  if (!rows.length) return { absent: "no repeats of these experiments" };
  const xs = one.points.map((point) => point[1]);
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const middle = xs.reduce((sum, x) => sum + x, 0) / xs.length;
  const fit = one.slope === undefined ? [{ x: middle, y: 0 }] : [low, high].map((x) => ({ x, y: (x - middle) * one.slope * 100 }));
  const percent = (value) => `${value >= 0 ? "+" : "−"}${Math.abs(value * 100).toPrecision(2)} %`;
  const told = one.slope === undefined ? one.absent : `${percent(one.slope)} per ${one.unit} [${percent(one.interval[0])}, ${percent(one.interval[1])}], ${one.resolved ? "RESOLVED: it leaks into the figure" : "not resolved"}; ${one.repeats} repeats of ${one.experiments} experiments`;
  return {
    spec: "effect",
    data: { rows, fit },
    series: seriesNames(),
    encode: { x: { title: `${one.name} (${one.unit})` } },
    caption: `${data.metrics[metric]?.header ?? one.figure} by ${one.name}: ${told}`,
    columns: [settingColumn, { head: one.name, text: (row) => number(row.x), sort: (row) => row.x, isFigure: true }, { head: "deviation in %", text: (row) => row.y.toFixed(3), sort: (row) => row.y, isFigure: true }],
  };
}

function fitPlot() {
  const fits = data.lengths.filter((one) => !one.absent);
  if (!fits.length) return { absent: data.lengths.length ? data.lengths.map((one) => `${one.name}: ${one.absent}`).join("; ") : "this campaign does not vary both lengths, of prompts and of outputs (length-regression.yaml does)" };
  const rows = fits.flatMap((one) => one.points.map(([cell, x, y]) => ({ cell, x, y, series: seriesOf(cell), more: `E_net per request: measured ${number(y)} J, fitted ${number(x)} J` }))).filter((row) => isKept(row.cell));
  if (!rows.length) return { absent: "no runs of these experiments" };
  const values = rows.flatMap((row) => [row.x, row.y]);
  const diagonal = [Math.min(...values), Math.max(...values)].map((x) => ({ x, y: x }));
  return { spec: "fit", data: { rows, diagonal }, series: seriesNames(), caption: "E_net per request, measured against fitted; on the dashed line they agree", columns: [settingColumn, { head: "fitted J", text: (row) => number(row.x), sort: (row) => row.x, isFigure: true }, { head: "measured J", text: (row) => number(row.y), sort: (row) => row.y, isFigure: true }] };
}

function termTables() {
  const tables = data.lengths.filter((one) => !one.absent).map((one) => sortedTable(
    `${one.name}: J per request about N_in ${number(one.centre_in)}, N_out ${number(one.centre_out)}; residual sd ${number(one.residual_sd_j)} J, ${one.runs} runs`,
    [
      { head: "term", text: (term) => term.term },
      { head: "J per unit", text: (term) => number(term.coefficient), isFigure: true },
      { head: "95 % interval", text: (term) => `${number(term.interval[0])} .. ${number(term.interval[1])}`, isFigure: true },
      { head: "VIF", text: (term) => term.vif.toFixed(1), isFigure: true },
    ], one.terms));
  document.getElementById("terms").replaceChildren(...tables);
}

const MOST_RATIOS = 40;

function backendPlot() {
  const pairs = data.backends.filter((pair) => pair.cells.every(isKept));
  refusals(pairs.filter((pair) => pair.differences.length));
  const found = pairs.map((pair) => ({ pair, one: pair.metrics[view.backends] })).filter(({ one }) => one && one.ratio !== null);
  if (!data.backends.length) return { absent: "no two backends were measured at the same setting" };
  if (!found.length) return { absent: pairs.length ? "no pair of these did the same work" : "no pair of these experiments" };
  const names = new Set(found.map(({ pair }) => `${pair.second} / ${pair.first}`));
  const far = ({ one }) => Math.abs(Math.log(one.ratio));
  const ranked = found.filter(({ one }) => one.interval).sort((a, b) => far(b) - far(a));
  if (!ranked.length) return { absent: found[0].one.reason };
  const rows = ranked.map(({ pair, one }) => ({
    label: names.size > 1 ? `${pair.second} / ${pair.first}, ${pair.setting}` : pair.setting,
    ratio: one.ratio, low: one.interval[0], high: one.interval[1], verdict: one.verdict, pair, one,
    hover: [`${pair.second} / ${pair.first}`, pair.setting, `ratio ${one.ratio.toPrecision(4)}`, `95 % ${one.interval.map((edge) => edge.toPrecision(4)).join(" .. ")}`, `p (Holm) ${one.p_adjusted?.toPrecision(2) ?? "—"}`, pair.texts].filter(Boolean),
  }));
  const drawn = rows.slice(0, MOST_RATIOS);
  const isNarrow = innerWidth < 500;
  const told = ["better", "worse", "not resolved"].map((word) => `${word} in ${found.filter(({ one }) => one.verdict === word).length}`).join(", ");
  return {
    spec: "ratios",
    data: { rows: drawn },
    all: rows,
    encode: { x: { title: `ratio of ${title(metricAt(view.backends))}, ${names.size > 1 ? "second / first" : [...names][0]}`, scale: { type: "log", nice: false, padding: 12 }, axis: isNarrow ? { titleAnchor: "end", labelSeparation: 6, labelOverlap: "greedy" } : {} }, y: { axis: isNarrow ? { labelLimit: innerWidth * 0.58 } : {}, sort: drawn.map((row) => row.label) }, color: { legend: isNarrow ? { columns: 1 } : {} } },
    height: (isNarrow ? 105 : 70) + 20 * drawn.length,
    caption: `The second backend is ${told} of ${found.length} settings; Holm-adjusted over the report` + (rows.length > drawn.length ? `; the ${drawn.length} that differ most are drawn` : ""),
    columns: [
      { head: "setting", text: (row) => row.pair.setting }, { head: "first", text: (row) => row.pair.first }, { head: "second", text: (row) => row.pair.second },
      { head: "second / first", text: (row) => row.ratio.toPrecision(4), sort: (row) => row.ratio, isFigure: true },
      { head: "95 % interval", text: (row) => `${row.low.toPrecision(4)} .. ${row.high.toPrecision(4)}`, isFigure: true },
      { head: "p (Holm)", text: (row) => row.one.p_adjusted?.toPrecision(2) ?? "—", sort: (row) => row.one.p_adjusted, isFigure: true },
      { head: "blocks", text: (row) => String(row.one.blocks), isFigure: true }, { head: "verdict", text: (row) => row.verdict },
      { head: "work", text: (row) => `the same${row.pair.texts ? `, ${row.pair.texts}` : ""}` },
    ],
  };
}

// Where the work was not the same nothing is compared, and what differed is said.
function refusals(pairs) {
  const place = document.getElementById("refused");
  place.replaceChildren();
  if (!pairs.length) return;
  place.append(sortedTable(`Not compared: the work differed (${pairs.length} of ${data.backends.length} pairs)`, [
    { head: "setting", text: (pair) => pair.setting }, { head: "first", text: (pair) => pair.first }, { head: "second", text: (pair) => pair.second },
    { head: "what differed", text: (pair) => pair.differences.join("; ") },
  ], pairs, { limit: 10 }));
}

function controls(section, ...found) {
  const place = document.getElementById(section).querySelector(".controls");
  place.append(...found.filter(Boolean));
  place.hidden = !place.children.length;
}

function fillPlots() {
  const metrics = data.metrics.map((metric, i) => [i, title(i)]);
  view.metric = Math.max(0, ["energy_per_output_token", "output_tokens_per_s"].map(metricAt).find((i) => i >= 0) ?? 0);
  const swept = data.axes.map((axis, i) => [i, axis]).filter(([, axis]) => axis.values.length > 1);
  view.x = (swept.find(([, axis]) => axis.numeric) ?? swept[0] ?? [0])[0];
  view.series = seriesAxis();
  const axes = data.axes.map((axis, i) => [i, axis.name]);
  const again = (plot, change) => (value) => { change(value); plot.draw(); };

  const parameter = new Plot("parameters", parameterPlot);
  if (data.axes.length && data.metrics.length) controls("parameters",
    choice("figure", metrics, view.metric, again(parameter, (v) => { view.metric = Number(v); })),
    choice("by", axes, view.x, again(parameter, (v) => { view.x = Number(v); })),
    choice("colour", [[-1, "backend"], ...axes.filter(([, name]) => name !== "backend")], data.axes[view.series]?.name === "backend" ? -1 : view.series, (v) => { view.series = Number(v); redraw(); }),
    choice("scale", ["auto", "linear", "log"].map((word) => [word, word]), "auto", again(parameter, (v) => { view.scale = v; })));
  if (data.axes[view.series]?.name === "backend") view.series = -1;

  const pareto = new Plot("pareto", paretoPlot);
  if (data.pareto.length > 1) controls("pareto", choice("against", data.pareto.map((one, i) => [i, title(metricAt(one.metric))]), 0, again(pareto, (v) => { view.pareto = Number(v); })));

  const latency = new Plot("latencies", latencyPlot);
  const kinds = [...new Set(data.latencies.map((one) => one.latency))];
  view.latency = kinds.includes("e2e") ? "e2e" : kinds[0];
  if (kinds.length > 1) controls("latencies", choice("latency", kinds.map((kind) => [kind, LATENCIES[kind] ?? kind]), view.latency, again(latency, (v) => { view.latency = v; })));

  data.covariates.forEach((_, index) => new Plot("effects", () => effectPlot(index)));
  termTables();
  new Plot("lengths", fitPlot);

  const known = new Set(data.backends.flatMap((pair) => Object.keys(pair.metrics)));
  const compared = [...known].filter((name) => metricAt(name) >= 0);
  view.backends = compared.find((name) => name === "energy_per_output_token") ?? compared[0] ?? "";
  const backends = new Plot("backends", backendPlot);
  if (compared.length > 1) controls("backends", choice("figure", compared.map((name) => [name, title(metricAt(name))]), view.backends, again(backends, (v) => { view.backends = v; })));
  return parameter;
}
