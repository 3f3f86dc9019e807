"""Hooks of `mkdocs.yml`: what the site has beside the pages as they lie in `docs/`.

The decisions are listed by their titles. The page of screens gets pictures, made here from a simulated campaign: the
terminal as SVG, the HTML report by a headless Chromium. Without Chromium the page says so, and the build goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

if TYPE_CHECKING:
    from lemctl.campaign.plan import Plan
    from lemctl.paths import Home

SCREENS = "explanation/screens.md"
WIDTH = 120
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY_MS = 60_000
NO_BROWSER = "No Chromium was found when this site was built: the picture of the HTML report is missing."
#: A rich screenshot names a font of a public server; a site of ours names none.
REMOTE_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)

CAMPAIGN = """
name: evening
model: "random:{vocab_size: 1000}"
preset: benchmark
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 32}
sweep:
  backend: [pytorch, vllm]
  workload.load.batch_size: [1, 4, 16]
cycles: 3
"""

#: What waits on the live screen, and the two minutes of its GPU.
NEXT = CAMPAIGN.replace("evening", "night")
HISTORY_S = 110
COOLS_S = 60

_captions: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The decisions, before the log."""
    folder = Path(config.docs_dir)
    decisions = [{_title(path): f"decisions/{path.name}"} for path in sorted((folder / "decisions").glob("*.md"))]
    assert config.nav is not None
    config.nav = [*config.nav, {"Decisions": decisions}, {"Log": "LOG.md"}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the pictures, each a file of the site."""
    _captions.clear()
    with tempfile.TemporaryDirectory() as folder:
        for name, (caption, content) in _pictures(Path(folder)).items():
            files.append(File.generated(config, f"explanation/{name}", content=content))
            _captions[name] = caption
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' signature
    """Put the pictures below the page of screens."""
    if page.file.src_uri != SCREENS:
        return markdown
    shown = [f"## {caption}\n\n![{caption}]({name})" for name, caption in _captions.items()]
    if not any(name.endswith(".png") for name in _captions):
        shown.append(NO_BROWSER)
    return "\n\n".join([markdown, *shown])


def _title(path: Path) -> str:
    return path.read_text("utf-8").partition("\n")[0].lstrip("# ")


def _pictures(folder: Path) -> dict[str, tuple[str, bytes]]:
    """File name -> (caption, content), of a campaign simulated in `folder`."""
    from lemctl.campaign.file import loads
    from lemctl.campaign.plan import plan
    from lemctl.paths import Home, data_folder
    from lemctl.simulate import run_campaign

    os.environ["LEM_HOME"] = str(folder)
    home = Home(folder)
    made = plan(loads(CAMPAIGN, catalogue_dir=data_folder() / "images"))
    with contextlib.redirect_stdout(io.StringIO()):
        run_campaign(made, CAMPAIGN, home, seed=4)
    (folder / "evening.yaml").write_text(CAMPAIGN)
    with contextlib.chdir(folder):
        pictures = {
            "plan.svg": ("`lemctl campaign plan`", _screen("campaign", "plan", "evening.yaml")),
            "status.svg": ("`lemctl status`", _screen("status")),
            "report.svg": ("`lemctl report`", _screen("report", "evening")),
            "run.svg": ("`lemctl results show`", _screen("results", "show", "1")),
        }
    _queue_another(home, plan(loads(NEXT, catalogue_dir=data_folder() / "images")))
    pictures["watch.svg"] = ("`lemctl status --watch`", asyncio.run(_watch(home)))
    if (
        browser := next(filter(None, map(shutil.which, (os.environ.get("LEM_CHROMIUM", ""), *BROWSERS))), None)
    ) is not None:
        pictures["html.png"] = ("`lemctl report --html`", _html_report(folder / "report.html", browser))
    return pictures


def _queue_another(home: Home, what: Plan) -> None:
    """A campaign that waits for its daemon, and a GPU that cools: what the live screen is for."""
    from lemctl.clock import SystemClock, boot_id
    from lemctl.measure.readings import Sample
    from lemctl.simulate.sampler import GPU
    from lemctl.store import campaigns, samples
    from lemctl.store.database import Store

    now_ns = time.monotonic_ns()
    rows = []
    for age_s in range(HISTORY_S):
        heat = math.exp((age_s - COOLS_S) / 20) if age_s < COOLS_S else 1.0
        busy = 97 if age_s >= COOLS_S else 0
        reading = {"power_mw": 6e4 + 5.9e5 * heat, "temp_c": 34 + round(30 * heat), "gpu_utilisation_pct": busy}
        rows.append(Sample(GPU, "power", now_ns - age_s * 10**9, {**reading, "sm_clock_mhz": 1980 if busy else 345}))
    with Store.open(home, "write") as store:
        host = store.host_id()
        with store.transaction() as tx:
            campaigns.add_campaign(tx, what, NEXT, "simulate", SystemClock(), host, 0, None)
            devices = {GPU: samples.know_device(tx, GPU, {"name": "Model GPU"})}
        samples.add_samples(store, devices, boot_id(), rows[::-1])


def _screen(*words: str) -> bytes:
    """What a command prints, as a picture of a terminal."""
    from rich.console import Console
    from rich.text import Text

    from lemctl.cli.main import run

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run(words) == 0, words
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text(f"$ lemctl {' '.join(words)}\n{said.getvalue()}"))
    return _local(console.export_svg(title="lemctl"))


async def _watch(home: Home) -> bytes:
    from lemctl.cli.watch.app import Watch

    app = Watch(home)
    async with app.run_test(size=(WIDTH, 30)) as pilot:
        await pilot.pause()
        return _local(app.export_screenshot(title="lemctl"))


def _local(svg: str) -> bytes:
    return REMOTE_FONT.sub("", svg).encode()


def _html_report(path: Path, browser: str) -> bytes:
    from playwright.sync_api import sync_playwright

    from lemctl.cli.main import run

    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["report", "evening", "--html", "-o", str(path)]) == 0
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1280, "height": 1600})
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=all]", timeout=READY_MS)
        shot = page.screenshot()
        opened.close()
    return bytes(shot)
