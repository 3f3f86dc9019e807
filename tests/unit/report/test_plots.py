"""Plots on paper: each has the figures of the report, with the choices that the page has, as vector graphics."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.errors import UsageMistake
from lemctl.paths import Home, data_folder
from lemctl.report.gather import gather_story
from lemctl.report.lengths import LengthFit, predicted_j
from lemctl.report.plots.figures import PlotChoice, drawings, write_plots
from lemctl.report.plots.fitting import LOG_FROM, Drawing
from lemctl.report.plots.rows import MOST_RATIOS
from lemctl.report.story import Story
from lemctl.simulate import run_campaign
from lemctl.store.database import Store

SVG = "{http://www.w3.org/2000/svg}"
ENERGY = "energy_per_output_token"
CAMPAIGN = """\
name: lengths
model: "random:{vocab_size: 1000}"
preset: throughput
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 16, load: {batch_size: 8}}
sweep: {backend: [pytorch, vllm], workload.random.input_len: [16, 128, 512], workload.max_new_tokens: [8, 32, 128]}
cycles: 2
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Two backends over a grid of lengths: there is data for every plot."""
    home = Home(tmp_path_factory.mktemp("plots"))
    found = plan(loads(CAMPAIGN, catalogue_dir=data_folder() / "images"))
    assert run_campaign(found, CAMPAIGN, home, sample_s=1.0) == 0
    with Store.open(home, "read") as store:
        return gather_story(store, "lengths")


def drawn(story: Story, **choice: Any) -> dict[str, Drawing]:
    """Every drawing by its name."""
    return {name: one for name, one in drawings(story, PlotChoice(**choice)) if one is not None}


def test_there_is_a_plot_of_everything_that_the_page_shows(story: Story) -> None:
    assert list(drawn(story)) == [
        "energy-by-input_len", "speed-by-input_len", "pareto-throughput", "pareto-latency", "trace", "latency-ttft",
        "latency-tpot", "latency-e2e", "start temperature", "hours since the first run", "length-regression",
        "ratio-speed", "ratio-ttft_p50", "ratio-energy",
    ]  # fmt: skip


def test_a_figure_by_parameter_has_every_cell_with_its_interval(story: Story) -> None:
    rows = drawn(story)["energy-by-input_len"].data["rows"]
    assert len(rows) == len(story.report.cells) == 18
    for row in rows:
        cell = story.report.cells[row["cell"]]
        figure = cell.figures[ENERGY]
        assert figure.mean is not None
        assert figure.half_width is not None
        assert row["x"] == cell.axes["workload.random.input_len"]
        assert row["series"] == cell.backend
        wanted = [figure.mean, figure.mean - figure.half_width, figure.mean + figure.half_width]
        assert [row["y"], row["low"], row["high"]] == pytest.approx(wanted, rel=1e-7)


def test_axis_colour_figure_and_scale_can_be_chosen(story: Story) -> None:
    found = drawn(story, figures=["e2e_p50"], by=["backend", "max_new_tokens"], colour="input_len", scale="log")
    assert [name for name in found if "-by-" in name] == ["e2e_p50-by-backend", "e2e_p50-by-max_new_tokens"]
    by_backend = found["e2e_p50-by-backend"]
    assert {row["x"] for row in by_backend.data["rows"]} == {"pytorch", "vllm"}
    assert by_backend.encode["x"]["type"] == "nominal"
    assert by_backend.encode["y"]["scale"]["type"] == "log"
    assert by_backend.series == ["16", "128", "512"]
    for row in by_backend.data["rows"]:
        axes = story.report.cells[row["cell"]].axes
        assert row["series"] == str(axes["workload.random.input_len"])
    linear = drawn(story, figures=["e2e_p50"], scale="linear")["e2e_p50-by-input_len"]
    assert "type" not in linear.encode["y"]["scale"]
    whole = drawn(story, by=["workload.max_new_tokens"])
    assert "energy-by-max_new_tokens" in whole
    assert "pareto-ttft_p50" in drawn(story, against=["ttft_p50"])


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"by": ["batch_size"]}, "does not sweep 'batch_size'; it sweeps backend, input_len, max_new_tokens"),
        ({"colour": "dtype"}, "does not sweep 'dtype'"),
        ({"figures": ["speed"]}, "no figure 'speed'"),
        ({"against": ["tokens_in"]}, "no figure to set energy against 'tokens_in'; there is output_tokens_per_s"),
    ],
)
def test_what_the_campaign_has_not_is_refused_with_what_it_has(story: Story, choice: Any, words: str) -> None:
    with pytest.raises(UsageMistake, match=words):
        drawn(story, **choice)


def test_latency_distributions_are_those_that_were_kept(story: Story) -> None:
    place = {cell.experiment: number for number, cell in enumerate(story.report.cells)}
    for kind in ("ttft", "tpot", "e2e"):
        rows = drawn(story)[f"latency-{kind}"].data["rows"]
        kept = [one for one in story.distributions if one.latency == kind]
        assert len(kept) == 18
        wanted = [(place[one.experiment], p, s) for one in kept for p, s in zip(one.percent, one.seconds, strict=True)]
        for row, (cell, percent, seconds) in zip(rows, wanted, strict=True):
            assert (row["cell"], row["percent"]) == (cell, percent)
            assert row["seconds"] == pytest.approx(seconds, rel=1e-4)


def test_ratios_of_backends_have_their_intervals_those_that_differ_most_first(story: Story) -> None:
    found = drawn(story)["ratio-energy"]
    rows = found.data["rows"]
    made = {pair.contrasts[ENERGY].comparison.ratio: pair.contrasts[ENERGY] for pair in story.report.comparisons}
    assert len(rows) == len(made) == 9
    for row in rows:
        contrast = made[row["ratio"]]
        interval = contrast.comparison.interval
        assert interval is not None
        assert (row["low"], row["high"], row["verdict"]) == (interval.low, interval.high, contrast.verdict)
    assert [row["ratio"] for row in rows] == sorted(row["ratio"] for row in rows), "vllm is the better one everywhere"
    assert found.encode["x:ratio"]["title"] == "ratio of J per output token, vllm / pytorch"


def test_the_length_regression_stands_beside_what_was_measured(story: Story) -> None:
    found = drawn(story)["length-regression"]
    fits: list[LengthFit] = list(story.report.lengths)
    wanted = [
        (predicted_j(fit.fitted, point.tokens_in, point.tokens_out), point.energy_j)  # type: ignore[arg-type]
        for fit in fits
        for point in fit.points
    ]
    assert len(wanted) == 36
    assert [(row["x"], row["y"]) for row in found.data["rows"]] == [pytest.approx(pair, rel=1e-7) for pair in wanted]
    low, high = found.data["diagonal"]
    assert low["x"] == low["y"] < high["x"] == high["y"]


def test_both_covariates_are_drawn_with_the_slope_that_was_found(story: Story) -> None:
    for one in story.covariates:
        found = drawn(story)[one.name]
        assert len(found.data["rows"]) == sum(len(points) for points in one.points.values()) > 30
        first, last = found.data["fit"]
        slope = (last["y"] - first["y"]) / (last["x"] - first["x"]) / 100
        assert slope == pytest.approx(one.effect.slope, rel=1e-6)  # type: ignore[union-attr]


def test_page_and_paper_draw_by_the_same_limits() -> None:
    script = resources.files("lemctl.report.page").joinpath("js", "plots.js").read_text("utf-8")
    assert f"const MOST_RATIOS = {MOST_RATIOS};" in script
    assert f"Math.min(...known) >= {LOG_FROM};" in script


def test_every_plot_is_written_as_vectors_with_its_marks(story: Story, tmp_path: Path) -> None:
    paths = write_plots(story, tmp_path)
    assert len(paths) == 2 * 14
    for path in paths:
        if path.suffix == ".pdf":
            content = path.read_bytes()
            assert content.startswith(b"%PDF-")
            assert b"/Subtype /Image" not in content
    ratio = ElementTree.parse(tmp_path / "ratio-energy.svg").getroot()
    marks = [node.get("aria-label") or "" for node in ratio.iter(f"{SVG}path")]
    assert sum("verdict" in label and "ratio" in label for label in marks) == 9
    words = {node.text for node in ratio.iter(f"{SVG}text")}
    assert {"input_len=512 max_new_tokens=8", "ratio of J per output token, vllm / pytorch"} <= words
