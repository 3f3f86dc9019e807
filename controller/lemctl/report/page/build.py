"""One HTML file from a story: the data as JSON, the styles, the drawing library, our scripts, and nothing to fetch.

A campaign file is data: each of its words is escaped here or reaches the page as text in the scripts, and the content
security policy lets only these very scripts run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from importlib import resources
from typing import Any, NamedTuple

from lemctl import __version__
from lemctl.report.page.data import page_data, trace_rows
from lemctl.report.page.library import Library
from lemctl.report.story import Story
from lemctl.report.text import footer_lines, header_lines

SCRIPTS = ("core", "tables", "plots", "traces", "main")


class Section(NamedTuple):
    """A part of the page: its id, heading and the sentence below it."""

    id: str
    heading: str
    note: str


PLOTS: tuple[Section, ...] = (
    Section(
        "parameters", "Energy and speed by parameter", "Lines join experiments that differ in this parameter alone."
    ),
    Section(
        "pareto",
        "Pareto front",
        "Nobody on the front is beaten in both figures. Bars are 95 % intervals on both axes.",
    ),
    Section(
        "windows",
        "Power and temperature",
        "Any window that was measured, discarded ones too, from loading to the tail. Readings are thinned out, their"
        " extremes kept; the database has them all.",
    ),
    Section("latencies", "Latency distributions", ""),
    Section(
        "effects",
        "Start temperature and order",
        "What should not matter: repeats against the mean of their experiment. A slope whose interval leaves out 0"
        " leaks into the figures.",
    ),
    Section(
        "lengths",
        "Prefill and decode",
        "E_net per request over a grid of lengths; refused where the grid cannot tell its terms apart.",
    ),
    Section(
        "backends",
        "Backends compared",
        "Ratios where nothing but the backend differs and the work was the same, paired over cycles on one GPU.",
    ),
)
SIMULATED = "SIMULATED: no engine ran. These figures show how lemctl works, not how fast anything is."
NO_SCRIPT = "Tables and plots need JavaScript; `lemctl report` prints the same figures as text."
HOW_TO = (
    "Plots: drag to move, Shift and wheel or + and − to zoom, double-click to go back, click a point for its"
    " experiment, a name in the legend for its series."
)
#: Tables that stand above a plot, by the plot's id.
BESIDE = {"lengths": "terms", "backends": "refused"}
#: The words of the navigation.
PARTS = {
    "summary": "Summary",
    "tables": "Figures",
    "parameters": "By parameter",
    "pareto": "Pareto",
    "windows": "Power",
    "latencies": "Latency",
    "effects": "Start and order",
    "lengths": "Prefill, decode",
    "backends": "Backends",
    "notes": "Notes",
}


def html_page(story: Story, library: Library) -> str:
    """The page."""
    from lemctl.report.plots.specs import COLOURS, COLOURS_DARK

    cells = story.report.cells
    place = {cell.experiment: number for number, cell in enumerate(cells)}
    data = page_data(story) | {"colours": {"light": COLOURS, "dark": COLOURS_DARK}}
    folder = resources.files("lemctl.report.page")
    own = "\n".join(folder.joinpath("js", f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    scripts = [library.script(), '"use strict";\n(() => {\n' + own + "})();\n"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
            f'<meta name="generator" content="lemctl {escape(__version__)}">',
            f"<title>{escape(story.report.campaign.label)} — lemctl report</title>",
            f"<style>{folder.joinpath('page.css').read_text('utf-8')}</style>",
            "</head>",
            "<body>",
            *_body(story),
            _json_element("data", data),
            _json_element("specs", library.specs()),
            _json_element("traces", trace_rows(story, place)),
            *(f"<script>{script}</script>" for script in scripts),
            "</body>",
            "</html>",
            "",
        ]
    )


def _policy(scripts: list[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _json_element(name: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # No "<" at all: neither an end of the element nor a comment can be in it. U+2028 and U+2029 are fine in JSON.
    return f'<script type="application/json" id="{name}">{text.replace("<", chr(92) + "u003c")}</script>'


def _body(story: Story) -> Iterator[str]:
    campaign = story.report.campaign
    yield '<a class="skip" href="#tables">to the figures</a>'
    yield f"<header><h1>{escape(campaign.label)}</h1>"
    done = f"{campaign.counts['Done']} of {campaign.total} runs done"
    yield f'<p class="lead">{escape(campaign.status)}, {done}, begun {escape(campaign.created_utc[:10])}</p>'
    if story.report.is_simulated:
        yield f'<p class="simulated">{SIMULATED}</p>'
    yield "</header>"
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading in PARTS.items())
    yield f'<nav aria-label="Parts of the report"><ul>{links}</ul></nav>'
    yield "<main>"
    yield f"<noscript><p>{NO_SCRIPT}</p></noscript>"
    yield from _summary(story)
    yield '<section id="tables" aria-label="Figures"><h2>Figures</h2>'
    yield '<div id="filters" aria-label="Show only some experiments"></div><div id="experiments"></div>'
    yield '<details class="screen" open><summary>Tables by any axes</summary><div id="by-axes"></div></details>'
    yield "</section>"
    for plot in PLOTS:
        yield from _plot(plot)
    yield '<section id="notes" aria-label="Notes"><h2>Notes</h2>'
    yield from _terms(footer_lines(story.report))
    yield "</section></main>"
    yield '<div id="hover" role="tooltip" hidden></div>'
    yield '<dialog id="picked" aria-label="One experiment in full"></dialog>'
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield f"<footer>lemctl {escape(__version__)}, written {made}. <span class=screen>{HOW_TO}</span></footer>"


def _plot(plot: Section) -> Iterator[str]:
    yield f'<section id="{plot.id}" aria-label="{escape(plot.heading)}"><h2>{escape(plot.heading)}</h2>'
    if plot.note:
        yield f'<p class="note">{escape(plot.note)}</p>'
    yield '<div class="controls" hidden></div>'
    if (more := BESIDE.get(plot.id)) is not None:
        yield f'<div id="{more}"></div>'
    yield "</section>"


def _summary(story: Story) -> Iterator[str]:
    report = story.report
    counts = report.campaign.counts
    valid, suspect = (sum(cell.verdicts.get(word, 0) for cell in report.cells) for word in ("VALID", "SUSPECT"))
    invalid = sum(cell.invalid for cell in report.cells)
    planned = sum(cell.planned for cell in report.cells)
    tiles = [
        ("", f"{len(report.cells):,}", "experiments"),
        ("", f"{counts['Done']:,} / {planned:,}", "runs done / planned"),
        ("good", f"{valid:,}", "VALID"),
        (
            "doubt" if suspect else "",
            f"{suspect:,}",
            "SUSPECT, averaged" if report.include_suspect else "SUSPECT, left out",
        ),
        ("doubt" if invalid else "", f"{invalid:,}", "INVALID attempts, left out"),
        ("bad" if counts["Failed"] else "", f"{counts['Failed']:,}", "failed runs"),
    ]
    yield '<section id="summary" aria-label="Summary"><h2>Summary</h2><ul class="tiles">'
    for kind, figure, word in tiles:
        yield f'<li class="{kind}"><b>{figure}</b><span>{word}</span></li>'
    yield "</ul>"
    yield from _terms(line for line in header_lines(report) if not line.startswith("SIMULATED"))
    yield "</section>"


def _terms(lines: Iterator[str]) -> Iterator[str]:
    """Lines of the text report, whose first ten characters are a word or blank, as a list of terms."""
    yield "<dl>"
    for line in lines:
        word, text = line[:11].strip(), line[11:].strip()
        yield f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"
