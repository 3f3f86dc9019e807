// The filter over everything, the table with a row for each experiment, tables by any axes, one experiment in full.

function fillFilters() {
  const place = document.getElementById("filters");
  data.axes.forEach((axis, i) => {
    if (axis.values.length < 2) return;
    const options = [["", "all"], ...axis.values.map((value) => [value, value])];
    place.append(choice(axis.name, options, "", (value) => {
      if (value === "") state.filters.delete(i);
      else state.filters.set(i, value);
      redraw();
    }));
  });
  place.hidden = !place.children.length;
}

function nText(cell) {
  const { ok, planned } = data.cells[cell];
  return `${ok}/${planned}`;
}

function verdicts(cell) {
  const { valid, suspect, invalid, failed } = data.cells[cell];
  const words = [[valid, "VALID"], [suspect, "SUSPECT"], [invalid, "INVALID"], [failed, "failed"]];
  return words.filter(([count]) => count).map(([count, word]) => `${count} ${word}`).join(", ") || "—";
}

const figureMarks = (metric) => (cell) => {
  const found = figure(cell, metric);
  return { "data-experiment": data.cells[cell].experiment, "data-metric": data.metrics[metric].name, ...(found ? { "data-n": found[0], "data-mean": found[1], "data-half": found[2] ?? "" } : {}) };
};

function experimentTable() {
  const columns = data.axes.map((axis, i) => ({
    head: axis.name,
    text: (cell) => data.cells[cell].axes[i],
    sort: axis.numeric ? (cell) => Number(data.cells[cell].axes[i]) : undefined,
    isFigure: axis.numeric,
  }));
  if (!columns.length) columns.push({ head: "backend", text: (cell) => data.cells[cell].backend });
  const first = columns[0].text;
  columns[0].node = (cell) => h("button", { type: "button", class: "pick", onclick: () => pick(cell), "aria-label": `all figures of ${settingOf(cell)}` }, first(cell));
  columns.push({ head: "n ok/planned", text: nText, sort: (cell) => data.cells[cell].ok, isFigure: true });
  for (const metric of data.main) {
    columns.push({ head: data.metrics[metric].header, text: (cell) => withInterval(figure(cell, metric), metric), sort: (cell) => figure(cell, metric)?.[1] ?? null, isFigure: true, marks: figureMarks(metric) });
  }
  if (data.cells.some((cell) => cell.work)) columns.push({ head: "work", text: (cell) => data.cells[cell].work ?? "—" });
  columns.push({ head: "verdicts", text: verdicts });
  return sortedTable("Experiments: mean ± half-width of the 95 % interval", columns, keptCells());
}

// Rows by any axes, columns by one more: a table cell that holds several experiments tells their range.
const pivot = { rows: new Set(), column: "", metric: 0 };

function pivotControls(fill) {
  const boxes = h("fieldset", {}, h("legend", {}, "rows by"));
  data.axes.forEach((axis, i) => {
    const box = h("input", { type: "checkbox", onchange: () => { box.checked ? pivot.rows.add(i) : pivot.rows.delete(i); fill(); } });
    box.checked = pivot.rows.has(i);
    boxes.append(h("label", {}, box, ` ${axis.name}`));
  });
  const axes = [["", "nothing"], ...data.axes.map((axis, i) => [i, axis.name])];
  const metrics = data.metrics.map((_, i) => [i, title(i)]);
  return h("div", { class: "controls" }, boxes,
    choice("columns by", axes, pivot.column, (value) => { pivot.column = value; fill(); }),
    choice("figure", metrics, pivot.metric, (value) => { pivot.metric = Number(value); fill(); }));
}

function pivotTable() {
  const rowAxes = [...pivot.rows].filter((axis) => String(axis) !== String(pivot.column)).sort((a, b) => a - b);
  const columnAxis = pivot.column === "" ? null : Number(pivot.column);
  const heads = columnAxis === null ? [""] : data.axes[columnAxis].values;
  const groups = new Map();
  for (const cell of keptCells()) {
    const key = JSON.stringify(rowAxes.map((axis) => data.cells[cell].axes[axis]));
    const column = columnAxis === null ? "" : data.cells[cell].axes[columnAxis];
    if (!groups.has(key)) groups.set(key, new Map());
    const row = groups.get(key);
    row.set(column, [...(row.get(column) ?? []), cell]);
  }
  const rank = (axis, value) => data.axes[axis].values.indexOf(value);
  const rows = [...groups].map(([key, byColumn]) => ({ values: JSON.parse(key), byColumn }));
  rows.sort((a, b) => rowAxes.map((axis, i) => rank(axis, a.values[i]) - rank(axis, b.values[i])).find((d) => d) ?? 0);
  const columns = rowAxes.map((axis, i) => ({ head: data.axes[axis].name, text: (row) => row.values[i], isFigure: data.axes[axis].numeric, sort: (row) => rank(axis, row.values[i]) }));
  const named = title(pivot.metric);
  for (const head of heads) {
    columns.push({
      head: columnAxis === null ? named : `${data.axes[columnAxis].name} ${head}`,
      text: (row) => several(row.byColumn.get(head) ?? []),
      sort: (row) => { const cells = row.byColumn.get(head) ?? []; return cells.length === 1 ? figure(cells[0], pivot.metric)?.[1] ?? null : null; },
      isFigure: true,
      marks: (row) => { const cells = row.byColumn.get(head) ?? []; return cells.length === 1 ? figureMarks(pivot.metric)(cells[0]) : {}; },
    });
  }
  return sortedTable(`${named}: mean ± half-width of the 95 % interval, n ok/planned`, columns, rows);
}

function several(cells) {
  if (!cells.length) return "—";
  const ok = cells.reduce((sum, cell) => sum + data.cells[cell].ok, 0);
  const planned = cells.reduce((sum, cell) => sum + data.cells[cell].planned, 0);
  if (cells.length === 1) return `${withInterval(figure(cells[0], pivot.metric), pivot.metric)} (${ok}/${planned})`;
  const means = cells.map((cell) => figure(cell, pivot.metric)?.[1]).filter((mean) => mean !== undefined);
  if (!means.length) return `— (${ok}/${planned})`;
  const [low, high] = [Math.min(...means), Math.max(...means)];
  return `${shown(low, pivot.metric)} … ${shown(high, pivot.metric)}, ${cells.length} experiments (${ok}/${planned})`;
}

function fillTables() {
  const place = document.getElementById("experiments");
  const fill = () => place.replaceChildren(experimentTable());
  fill();
  listeners.push(fill);
  const any = document.getElementById("by-axes");
  if (!data.axes.length || !data.metrics.length) { any.closest("details").hidden = true; return; }
  pivot.metric = Math.max(0, data.metrics.findIndex((metric) => metric.name === "energy_per_output_token"));
  pivot.rows.add(data.axes.length > 1 ? 1 : 0);
  pivot.column = data.axes.length > 1 ? "0" : "";
  const table = h("div");
  const fillPivot = () => table.replaceChildren(pivotTable());
  any.append(pivotControls(fillPivot), table);
  fillPivot();
  listeners.push(fillPivot);
}

// --- one experiment in full --------------------------------------------------------------------------------------

function pick(cell) {
  const dialog = document.getElementById("picked");
  const found = data.cells[cell];
  const close = h("button", { type: "button", onclick: () => dialog.close(), "aria-label": "close" }, "✕");
  const metrics = data.metrics.map((_, i) => i).filter((i) => found.figures[i]);
  const runs = data.runs.filter((run) => run[1] === cell);
  dialog.replaceChildren(
    h("header", {}, h("h3", {}, settingOf(cell)), close),
    h("p", {}, `experiment ${found.experiment.slice(0, 12)}, ${found.backend}, ${found.model}; n ${nText(cell)}; ${verdicts(cell)}`),
    sortedTable("Its runs", [
      { head: "run", text: (run) => String(run[0]), sort: (run) => run[0], isFigure: true },
      { head: "cycle", text: (run) => String(run[2]), sort: (run) => run[2], isFigure: true },
      { head: "verdict", text: (run) => run[4] },
      { head: "J/out token", text: (run) => number(run[5]), sort: (run) => run[5], isFigure: true },
      { head: "tokens/s", text: (run) => number(run[6]), sort: (run) => run[6], isFigure: true },
      { head: "trace", text: () => "", node: (run) => h("button", { type: "button", class: "pick", onclick: () => { dialog.close(); showTrace(run[3]); } }, "show") },
    ], runs),
    h("p", { class: "note" }, `\`lemctl results show ${runs[0]?.[0] ?? "RUN"}\` tells everything that was recorded of a run.`),
    sortedTable("Its figures", [
      { head: "metric", text: (i) => data.metrics[i].name },
      { head: "n", text: (i) => String(found.figures[i][0]), isFigure: true },
      { head: "mean", text: (i) => number(found.figures[i][1]), isFigure: true },
      { head: "±", text: (i) => number(found.figures[i][2]), isFigure: true },
      { head: "unit", text: (i) => data.metrics[i].unit },
    ], metrics, { limit: 200 }),
  );
  if (!dialog.open) dialog.showModal();
}
