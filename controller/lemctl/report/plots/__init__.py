"""Plots: one set of Vega-Lite specifications, drawn by the page in a browser and by vl-convert for a paper."""
