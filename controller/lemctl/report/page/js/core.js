// What all parts share: the data, the elements, the formats, and the drawing of one plot.
// Every word from a campaign reaches the page as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const specs = JSON.parse(document.getElementById("specs").textContent);
const state = { filters: new Map() };
const listeners = [];

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// As `lemctl report` writes figures.
function number(value) {
  if (value === null || value === undefined) return "—";
  const size = Math.abs(value);
  if (size === 0) return "0";
  const grouped = (v) => v.toLocaleString("en-US", { maximumFractionDigits: 0 });
  if (Number.isInteger(value) && size < 1e7) return grouped(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(2);
  if (size >= 1000) return grouped(value);
  if (size < 0.1) return String(Number(value.toPrecision(3)));
  return value.toFixed(size < 1 ? 3 : size < 10 ? 2 : 1);
}

const figure = (cell, metric) => data.cells[cell].figures[metric] ?? null;
const isSeconds = (metric) => data.metrics[metric].unit === "s";

function shown(value, metric) {
  if (value === null || value === undefined) return "—";
  if (!isSeconds(metric)) return number(value);
  return value >= 1 ? `${value.toFixed(2)} s` : `${Number((value * 1e3).toPrecision(3))} ms`;
}

function withInterval(found, metric) {
  if (!found) return "—";
  if (found[2] === null) return shown(found[1], metric);
  const [mean, half] = [shown(found[1], metric), shown(found[2], metric)];
  const unit = isSeconds(metric) ? mean.slice(mean.indexOf(" ")) : "";
  return unit && half.endsWith(unit) ? `${mean.slice(0, -unit.length)} ± ${half}` : `${mean} ± ${half}`;
}

function settingOf(cell) {
  const { axes, backend } = data.cells[cell];
  return data.axes.map((axis, i) => `${axis.name}=${axes[i]}`).join(" ") || backend;
}

function isKept(cell) {
  for (const [axis, value] of state.filters) if (data.cells[cell].axes[axis] !== value) return false;
  return true;
}

const keptCells = () => data.cells.map((_, cell) => cell).filter(isKept);

function choice(label, options, chosen, changed) {
  const select = h("select", { "aria-label": label, onchange: () => changed(select.value) });
  for (const [value, text] of options) select.append(h("option", { value }, text));
  select.value = String(chosen);
  return h("label", {}, `${label} `, select);
}

function sortedTable(caption, columns, rows, { limit = 50, className = "" } = {}) {
  // columns: {head, text(row), sort?(row), isFigure}; a click on a head sorts, a second one turns it round.
  let order = null, up = true, all = false;
  const place = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
  const more = h("button", { type: "button", class: "more", onclick: () => { all = true; fill(); } });
  const holder = h("div", { class: className }, place, more);
  function ordered() {
    if (order === null) return rows;
    const key = columns[order].sort ?? columns[order].text;
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    return [...rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return up ? compare(x, y) : compare(y, x);
    });
  }
  function fill() {
    const head = h("tr");
    columns.forEach((column, i) => {
      const sorted = order === i ? (up ? "ascending" : "descending") : "none";
      const sort = () => { up = order === i ? !up : true; order = i; fill(); };
      const button = h("button", { type: "button", onclick: sort, title: "sort" }, column.head);
      head.append(h("th", { scope: "col", class: column.isFigure ? "figure" : null, "aria-sort": sorted }, button));
    });
    const body = h("tbody");
    const visible = all ? ordered() : ordered().slice(0, limit);
    for (const row of visible) {
      const line = h("tr");
      columns.forEach((column) => {
        const cell = h("td", { class: column.isFigure ? "figure" : null });
        cell.append(column.node ? column.node(row) : column.text(row));
        for (const [name, value] of Object.entries(column.marks?.(row) ?? {})) cell.setAttribute(name, value);
        line.append(cell);
      });
      body.append(line);
    }
    place.replaceChildren(h("table", {}, h("caption", {}, caption), h("thead", {}, head), body));
    more.textContent = `Show all ${rows.length.toLocaleString("en-US")} rows`;
    more.hidden = visible.length === rows.length;
  }
  fill();
  return holder;
}

// --- one plot ---------------------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
const plots = [];

function theme() {
  const style = getComputedStyle(document.documentElement);
  const [ink, faint, line] = ["--ink", "--faint", "--line"].map((name) => style.getPropertyValue(name).trim());
  const font = style.fontFamily;
  const words = { labelColor: faint, titleColor: ink, labelFont: font, titleFont: font, titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12 };
  return {
    background: "transparent",
    view: { stroke: null },
    axis: { ...words, gridColor: line, domainColor: faint, tickColor: faint, labelOverlap: true },
    legend: { ...words, orient: "top", symbolOpacity: 1, columns: innerWidth < 500 ? 2 : 4, labelLimit: 140 },
    text: { color: faint, font },
  };
}

function walk(node, visit) {
  visit(node);
  for (const child of [...(node.layer ?? []), ...(node.vconcat ?? [])]) walk(child, visit);
}

function fitted(name, { encode = {}, series = [], over, width, height }) {
  const colours = dark.matches ? data.colours.dark : data.colours.light;
  let text = JSON.stringify(specs[name]);
  data.colours.light.forEach((colour, i) => { text = text.replaceAll(colour, colours[i]); });
  const spec = JSON.parse(text);
  walk(spec, (node) => {
    for (const [channel, definition] of Object.entries(node.encoding ?? {})) {
      if (definition.field === "series") {
        definition.scale = { ...definition.scale, domain: series };
        if (channel === "color") definition.scale.range = series.map((_, i) => colours[i % colours.length]);
        if (series.length < 2) definition.legend = null;
      }
      const wanted = definition.field && (encode[`${channel}:${definition.field}`] ?? encode[channel]);
      if (wanted) {
        if (wanted.title !== undefined) definition.title = wanted.title;
        if (wanted.type) definition.type = wanted.type;
        if (wanted.scale) definition.scale = { ...definition.scale, ...wanted.scale };
        if (definition.scale?.type === "log") delete definition.scale.zero;
        if (wanted.sort !== undefined) definition.sort = wanted.sort;
        if (wanted.axis) definition.axis = { ...definition.axis, ...wanted.axis };
        if (wanted.legend) definition.legend = { ...definition.legend, ...wanted.legend };
      }
    }
  });
  const parts = spec.vconcat;
  if (over) parts.forEach((part) => part.layer.push(over));
  if (parts) parts.forEach((part, i) => Object.assign(part, { width: width - 70, height: i ? height * 0.3 : height * 0.7 }));
  else Object.assign(spec, { width, height, autosize: { type: "fit", contains: "padding" } });
  return spec;
}

function tooltip(handler, event, item, value) {
  const box = document.getElementById("hover");
  const datum = item?.datum;
  const lines = value && datum ? describe(datum, value) : null;
  box.hidden = !lines;
  if (!lines) return;
  box.replaceChildren(...lines.map((line) => h("div", {}, line)));
  const [x, y] = [event.clientX + 14, event.clientY + 14];
  box.style.left = `${Math.max(4, Math.min(x, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.min(y, innerHeight - box.offsetHeight - 8)}px`;
}

function describe(datum, value) {
  if (datum.hover) return datum.hover;
  if (datum.cell === undefined) return Object.entries(value).map(([name, found]) => `${name}: ${found}`);
  const cell = data.cells[datum.cell];
  const lines = [settingOf(datum.cell), `n ${cell.ok} of ${cell.planned}`];
  for (const metric of data.main.filter((m) => cell.figures[m])) {
    lines.push(`${data.metrics[metric].header}: ${withInterval(cell.figures[metric], metric)}`);
  }
  return datum.more ? [...lines, datum.more] : lines;
}

class Plot {
  // make() -> {spec, data: {rows, ...}, encode, series, height, columns, caption} or {absent: why}
  constructor(section, make) {
    this.section = document.getElementById(section);
    this.make = make;
    this.isDrawn = false;
    this.heading = this.section.querySelector("h2").textContent;
    this.place = h("div", { class: "plot" });
    this.caption = h("figcaption");
    this.save = h("button", { type: "button", class: "save", onclick: () => this.download() }, "Save as SVG");
    this.zooms = h("span", { class: "zooms", role: "group", "aria-label": `zoom: ${this.heading}` },
      h("button", { type: "button", "aria-label": "zoom in", onclick: () => this.zoom(-1) }, "+"),
      h("button", { type: "button", "aria-label": "zoom out", onclick: () => this.zoom(1) }, "−"));
    this.rows = h("details", { class: "rows", ontoggle: () => this.tabulate() }, h("summary", {}, "The same as a table"), h("div"));
    this.section.append(h("figure", {}, this.place, this.caption, this.zooms, this.save), this.rows);
    plots.push(this);
    listeners.push(() => this.draw());
  }
  async draw() {
    this.isDrawn = true;
    const made = (this.made = this.make());
    this.zooms.hidden = this.save.hidden = this.rows.hidden = Boolean(made.absent);
    if (made.absent) {
      this.view?.finalize();
      this.view = null;
      this.place.replaceChildren(h("p", { class: "absent" }, made.absent));
      this.caption.textContent = "";
      return;
    }
    this.caption.textContent = made.caption ?? "";
    const height = made.height ?? Math.min(380, Math.max(260, innerWidth * 0.6));
    this.place.style.minHeight = `${height}px`;
    const spec = fitted(made.spec, { ...made, width: Math.max(240, this.place.clientWidth - 2), height });
    spec.description = `${this.heading}. ${made.caption}`;
    this.zooms.hidden = !JSON.stringify(spec).includes('"name":"zoom"');
    const count = Object.values(made.data).reduce((sum, rows) => sum + rows.length, 0);
    spec.datasets = { ...spec.datasets, ...made.data };
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const done = await vegaEmbed(this.place, spec, { renderer: count > 2500 ? "canvas" : "svg", actions: false, ast: true, tooltip, config: theme() });
    if (turn !== this.turn) return;
    this.view?.finalize();
    this.view = done.view;
    done.view.addEventListener("click", (_, item) => { if (item?.datum?.cell !== undefined) pick(item.datum.cell); });
    done.view.addEventListener("dblclick", () => this.draw());
    this.tabulate();
  }
  // As Shift and wheel in its middle: a telephone has neither.
  zoom(direction) {
    const areas = [".role-scope path.background", "path.background", "canvas"].map((one) => this.place.querySelector(one));
    const area = areas.find(Boolean);
    const { left, top, width, height } = area.getBoundingClientRect();
    const at = { clientX: left + width / 2, clientY: top + height / 2 };
    area.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: 300 * direction, shiftKey: true, bubbles: true, cancelable: true }));
  }
  tabulate() {
    const { columns, data: found } = this.made ?? {};
    if (!this.rows.open || !columns) return;
    this.rows.lastChild.replaceChildren(sortedTable(this.caption.textContent || "Rows of the plot", columns, this.made.all ?? found.rows));
  }
  async download() {
    const text = await this.view.toSVG();
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "image/svg+xml" })), download: `${data.label}-${this.section.id}.svg` });
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

function redraw() {
  for (const listener of listeners) listener();
}
