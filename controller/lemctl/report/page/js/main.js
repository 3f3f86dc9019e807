// From top to bottom: what is seen first is drawn first, the rest when it comes into sight or nothing else is to do.

async function start() {
  fillFilters();
  fillTables();
  const first = fillPlots();
  trace.plot = new Plot("windows", tracePlot);
  listeners.push(termTables);
  await first.draw();
  performance.mark("first-view");
  document.documentElement.dataset.ready = "first";
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
  }, { rootMargin: "300px" });
  const waiting = new Map(plots.filter((plot) => plot !== first).map((plot) => [plot.place, plot]));
  function draw(place) {
    observer.unobserve(place);
    const plot = waiting.get(place);
    waiting.delete(place);
    return plot && !plot.isDrawn ? plot.draw() : null;
  }
  for (const place of waiting.keys()) observer.observe(place);
  // In idle moments the rest too, so that the page prints whole.
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  const next = async () => {
    const place = waiting.keys().next().value;
    if (place === undefined) { document.documentElement.dataset.ready = "all"; return; }
    await draw(place);
    idle(next);
  };
  idle(next);
}

let resized = null;
let lastWidth = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === lastWidth) return; // a telephone's address bar comes and goes
  lastWidth = innerWidth;
  clearTimeout(resized);
  resized = setTimeout(() => { for (const plot of plots) if (plot.isDrawn) plot.draw(); }, 150);
});
dark.addEventListener("change", () => { for (const plot of plots) if (plot.isDrawn) plot.draw(); });
// Paper has no button that shows the rest. What is folded away is not printed.
addEventListener("beforeprint", () => {
  for (const more of document.querySelectorAll("main .more:not([hidden])")) if (!more.closest("details")) more.click();
});

start();
