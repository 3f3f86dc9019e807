// Power and temperature through one attempt. The samples are taken apart only when somebody looks.

const trace = { all: null, byAttempt: new Map(), attempt: null, kind: "all", gpu: 0, plot: null };

function allTraces() {
  if (trace.all === null) {
    trace.all = JSON.parse(document.getElementById("traces").textContent);
    for (const one of trace.all) trace.byAttempt.set(one.attempt, [...(trace.byAttempt.get(one.attempt) ?? []), one]);
  }
  return trace.all;
}

// A line is thin: each reading is told over the whole height, as long as it lasted.
const AT_ANY_HEIGHT = {
  data: { name: "rows" }, mark: { type: "rect", opacity: 0 },
  encoding: { x: { field: "t", type: "quantitative" }, x2: { field: "until" }, tooltip: { field: "t", type: "quantitative" } },
};

function tracePlot() {
  const found = allTraces();
  if (!found.length) return { absent: "no samples: no GPU sensor was read, or the samples are not in this database" };
  if (!trace.byAttempt.has(trace.attempt)) trace.attempt = (chosen()[0] ?? found[0]).attempt;
  fillPicker();
  const gpus = trace.byAttempt.get(trace.attempt);
  const one = gpus[Math.min(trace.gpu, gpus.length - 1)];
  const t = (tenths) => tenths / 10;
  const watts = (tenths) => (tenths === null ? null : tenths / 10);
  const phaseAt = (at) => one.phases.find(([, begin, end]) => begin <= at && at < end)?.[0];
  const marked = (i) => (one.throttled?.includes(i) ? "THROTTLED" : one.capped?.includes(i) ? "at the power cap" : null);
  const rows = [];
  one.t.forEach((at, i) => {
    const before = i ? at - one.t[i - 1] : 0, after = (one.t[i + 1] ?? one.end) - at;
    // A hole in the series stays one: nothing is drawn across it.
    const isBeforeHole = i > 0 && after > 50 && after > 4 * before;
    const hover = [`${t(at)} s${phaseAt(at) ? `, ${phaseAt(at)}` : ""}`, `${watts(one.low[i])} .. ${watts(one.high[i])} W, mean ${watts(one.mean[i])} W`, `${one.temp[i] ?? "—"} °C`, marked(i)].filter(Boolean);
    rows.push({ t: t(at), until: t(at + (isBeforeHole ? before : after)), low: watts(one.low[i]), high: watts(one.high[i]), mean: watts(one.mean[i]), temp: one.temp[i], hover });
    if (isBeforeHole) rows.push({ t: t(at) + 0.1, until: t(at) + 0.1, low: null, high: null, mean: null, temp: null });
  });
  const isIn = (begin, end) => one.windows.some(([from, to]) => begin < to && end > from);
  const width = document.getElementById("windows").clientWidth || 600;
  const phases = one.phases.map(([phase, begin, end], i) => ({
    phase, begin: t(begin), end: t(end), middle: t((begin + end) / 2), measured: phase === "window" && isIn(begin, end), shade: i % 2 ? 0.05 : 0.11,
    label: ((end - begin) / one.end) * width > phase.length * 6.5 + 4 ? phase : "", hover: [`${phase}: ${t(begin)} .. ${t(end)} s`],
  }));
  if (!one.phases.length) for (const [begin, end] of one.windows) phases.push({ phase: "window", begin: t(begin), end: t(end), middle: t((begin + end) / 2), measured: true, shade: 0, label: "window", hover: [`window: ${t(begin)} .. ${t(end)} s`] });
  const marks = [...spans(one, one.capped, "power cap"), ...spans(one, one.throttled, "thermal or brake")];
  const throttled = one.throttled ? "THROTTLED" : one.capped ? "at the power cap for a while, not throttled" : "not throttled";
  return {
    spec: "trace",
    over: AT_ANY_HEIGHT,
    data: { rows, phases, marks },
    // Room for the phases' names above and the throttling below.
    encode: { x: { scale: { domain: [0, one.end / 10] } }, "y:low": { scale: { domain: [0, 1.12 * Math.max(1, ...rows.map((row) => row.high ?? 0))], nice: false } } },
    height: Math.min(420, Math.max(300, innerWidth * 0.8)),
    caption: `run ${one.run}, cycle ${one.cycle}, attempt ${one.number}, ${standing(one)}; ${one.gpu}: ${settingOf(one.cell)}; ${throttled}. The band spans the lowest and highest reading, the line is the mean; the measured window is blue`,
    columns: [
      { head: "t in s", text: (row) => String(row.t), sort: (row) => row.t, isFigure: true }, { head: "lowest W", text: (row) => number(row.low), isFigure: true },
      { head: "mean W", text: (row) => number(row.mean), isFigure: true }, { head: "highest W", text: (row) => number(row.high), isFigure: true }, { head: "°C", text: (row) => number(row.temp), isFigure: true },
    ],
  };
}

function spans(one, places, kind) {
  const found = [];
  for (const place of places ?? []) {
    const begin = one.t[place] / 10, end = (one.t[place + 1] ?? one.end) / 10;
    const last = found[found.length - 1];
    if (last && Math.abs(last.end - begin) < 1e-6) last.end = end;
    else found.push({ begin, end, kind });
  }
  for (const span of found) span.hover = [`${kind}: ${span.begin} .. ${span.end} s`];
  return found;
}

// The windows that people look for: name, and which traces it has.
const KINDS = [
  ["all", "all windows", () => true],
  ["throttled", "throttled", (one) => Boolean(one.throttled)],
  ["discarded", "discarded", (one) => one.outcome !== "ok"],
];

const chosen = () => allTraces().filter((one) => isKept(one.cell) && KINDS.find(([kind]) => kind === trace.kind)[2](one));

// The verdict, and what was found against it; `failed` and the like where no verdict was reached.
function standing(one) {
  const word = one.verdict || one.outcome;
  return `${one.outcome === "ok" ? word : `${word}, discarded`}${one.why ? `: ${one.why}` : ""}`;
}

function fillPicker() {
  const one = trace.byAttempt.get(trace.attempt)[0];
  const attempts = [...new Set(chosen().map((each) => each.attempt))];
  const firsts = [...trace.byAttempt.values()].map((gpus) => gpus[0]).filter((each) => attempts.includes(each.attempt) || each === one);
  const cells = [...new Set(firsts.map((each) => each.cell))];
  const of = (cell) => firsts.filter((each) => each.cell === cell);
  const go = (attempt) => { trace.attempt = attempt; trace.plot.draw(); };
  const step = (by) => { const next = attempts[attempts.indexOf(trace.attempt) + by]; if (next !== undefined) go(next); };
  const kinds = KINDS.map(([kind, words, has]) => [kind, `${words} (${new Set(allTraces().filter((each) => isKept(each.cell) && has(each)).map((each) => each.attempt)).size})`]);
  const label = (each) => `${each.cycle} (run ${each.run}, attempt ${each.number}${each.verdict === "VALID" ? "" : ` ${each.verdict || each.outcome}`})`;
  const parts = [
    choice("windows", kinds, trace.kind, (kind) => { trace.kind = kind; go(chosen()[0]?.attempt ?? trace.attempt); }),
    choice("experiment", cells.map((cell) => [cell, settingOf(cell)]), one.cell, (value) => go(of(Number(value))[0].attempt)),
    choice("cycle", of(one.cell).map((each) => [each.attempt, label(each)]), one.attempt, (value) => go(Number(value))),
    h("span", { class: "steps" },
      h("button", { type: "button", onclick: () => step(-1) }, "← earlier"), " ",
      h("button", { type: "button", onclick: () => step(1) }, "later →")),
  ];
  const gpus = trace.byAttempt.get(trace.attempt);
  if (gpus.length > 1) parts.push(choice("GPU", gpus.map((each, i) => [i, each.gpu]), trace.gpu, (value) => { trace.gpu = Number(value); trace.plot.draw(); }));
  const place = document.getElementById("windows").querySelector(".controls");
  // Kept while the same choice is open: a list that is rebuilt under the finger closes.
  place.replaceChildren(...parts);
  place.hidden = false;
}

async function showTrace(attempt) {
  allTraces();
  if (!trace.byAttempt.has(attempt)) return;
  trace.attempt = attempt;
  await trace.plot.draw();
  document.getElementById("windows").scrollIntoView({ behavior: "smooth" });
}
