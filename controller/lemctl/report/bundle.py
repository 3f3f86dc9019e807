"""Everything that a reader of a paper needs to check its figures, in one archive: the campaign's part of the database,
its file, digests, prompts, report, tables, plots, methods, checksums, and how to cite it."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lem_runner.prompts import file_sha256
from lemctl import __version__
from lemctl.report.citation import citation
from lemctl.report.document import Report
from lemctl.report.evidence import sources_used
from lemctl.report.export import csv_report
from lemctl.report.methods import methods_text
from lemctl.report.page.build import html_page
from lemctl.report.page.library import Library
from lemctl.report.paper import latex_report, markdown_report
from lemctl.report.plots.figures import write_plots
from lemctl.report.story import Story
from lemctl.steps import Step, Tell, counted, unheard
from lemctl.store.database import Store
from lemctl.store.queries import campaign_document, campaign_specs
from lemctl.store.slice import write_slice
from lemctl.store.works import works_of_campaign

#: Every file of an archive carries this time: the same content gives the same archive.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class BundleOptions:
    """What goes in, and who is cited."""

    with_samples: bool = True
    with_prompts: bool = True
    authors: Sequence[str] = ()


def write_bundle(
    store: Store,
    story: Story,
    library: Library,
    folder: Path,
    options: BundleOptions,
    tell: Tell = unheard,
) -> list[str]:
    """Fill an empty folder; returns what is missing in it, in words."""
    # Readers have the file beside the report, wherever it was measured.
    report = replace(story.report, database="lem.db")
    story = replace(story, report=report)
    document, source = campaign_document(store.connection, report.campaign.id)
    specs = campaign_specs(store.connection, report.campaign.id)
    tell(Step("copying its part of the database"))
    write_slice(store, report.campaign.id, folder, with_samples=options.with_samples)
    for name in ("sessions", "runner", "logs", "backups", "prompts"):
        shutil.rmtree(folder / name, ignore_errors=True)
    tell(Step("copying prompts"))
    missing = _copy_prompts(store, report, folder / "prompts") if options.with_prompts else ["prompts: left out"]
    missing += [] if options.with_samples else ["samples: left out"]
    tell(Step("writing report and tables"))
    files = {
        "campaign.yaml": source,
        "campaign.json": json.dumps(document, indent=2, ensure_ascii=False),
        "digests.json": json.dumps(_digests(story), indent=2, ensure_ascii=False),
        "report.html": html_page(story, library),
        "report.json": json.dumps(report.to_json(), indent=2, ensure_ascii=False),
        "tables/figures.csv": csv_report(report),
        "tables/figures.tex": latex_report(report),
        "tables/figures.md": markdown_report(report),
        "methods.md": methods_text(story, document, specs),
        "CITATION.cff": citation(report, options.authors),
        "README.md": _readme(story, missing),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.rstrip("\n") + "\n", "utf-8")
    (folder / "plots").mkdir()
    write_plots(story, folder / "plots", tell=tell)
    tell(Step("computing checksums"))
    _write_checksums(folder)
    return missing


def pack(folder: Path, archive: Path, name: str, tell: Tell = unheard) -> None:
    """The folder as a zip archive, below one folder called `name`. The same files give the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in counted(paths, tell, "packing", "files", len(paths)):
            entry = zipfile.ZipInfo(f"{name}/{path.relative_to(folder).as_posix()}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, target.open(entry, "w", force_zip64=True) as inside:
                shutil.copyfileobj(source, inside)


def _copy_prompts(store: Store, report: Report, folder: Path) -> list[str]:
    """The prompt files that attempts were served from, found by their content."""
    works = works_of_campaign(store.connection, report.campaign.id).values()
    wanted = {digest for work in works if (digest := work.document.get("pool_sha256"))}
    there = {file_sha256(path): path for path in sorted(store.home.prompts.glob("*.jsonl"))} if wanted else {}
    for digest in sorted(wanted & set(there)):
        folder.mkdir(exist_ok=True)
        shutil.copyfile(there[digest], folder / there[digest].name)
    return [f"prompts: no file with sha256 {digest} is left" for digest in sorted(wanted - set(there))]


def _digests(story: Story) -> Mapping[str, Any]:
    report = story.report
    environments = report.surroundings["environments"]
    return {
        "lemctl": environments.get("project") or [{"version": __version__}],
        "images": sorted({s["image_digest"] for s in report.surroundings["sessions"] if s["image_digest"]}),
        "engines": [
            {"backend": session["backend"], "python": session["python"], "packages": session["packages"]}
            for session in report.surroundings["sessions"]
        ],
        "models": sources_used(story.runs, "model") or sorted({cell.model for cell in report.cells}),
        "datasets": sources_used(story.runs, "dataset"),
        "experiments": {cell.experiment: cell.axes for cell in report.cells},
    }


def _readme(story: Story, missing: Sequence[str]) -> str:
    report, label = story.report, story.report.campaign.label
    run = story.runs[0].result.run if story.runs else "RUN"
    simulated = ["**SIMULATED: no engine ran.**", ""] if report.is_simulated else []
    lost = ["", "Not in it:", "", *(f"- {line}" for line in missing)] if missing else []
    return "\n".join(
        [
            f"# Results of the campaign {label}",
            "",
            *simulated,
            f"Written by lemctl {__version__}. `sha256sum -c SHA256SUMS` checks every file.",
            "",
            "| file | what it is |",
            "|---|---|",
            "| `report.html` | the report, in any browser, without a network |",
            "| `methods.md` | a paragraph of methods with the settings and versions that were used |",
            "| `tables/`, `plots/` | figures as CSV, LaTeX, Markdown; plots as SVG and PDF |",
            "| `campaign.yaml`, `campaign.json` | the campaign as it was written, and with every default filled in |",
            "| `digests.json` | versions, images, commits of models and data sets, experiments by hash |",
            "| `lem.db` | every run, attempt, figure and raw sample, SQLite |",
            "| `prompts/` | the prompts with their token ids |",
            "| `CITATION.cff` | how to cite it |",
            *lost,
            "",
            "This folder is a state folder: the figures can be followed back to their samples with",
            "",
            "```sh",
            f"lemctl --home . report {label}",
            "lemctl --home . results list",
            f"lemctl --home . results show {run}",
            f"lemctl --home . results samples {run}",
            f"lemctl --home . results environment {run}",
            "```",
        ]
    )


def _write_checksums(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}" for path in paths]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
