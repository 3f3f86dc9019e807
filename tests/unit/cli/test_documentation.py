"""The reference pages: written from the code, complete, and never stale."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import Lemctl

from lemctl.cli import docs
from lemctl.cli.whole import whole_app
from lemctl.judge.factors import FACTOR_METRICS
from lemctl.judge.metrics import METRICS
from lemctl.settings import Settings


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that can be typed, with its whole name."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, inner in children.items():
        yield from commands(f"{name} {child}", inner)


REPO = Path(__file__).parents[3]
#: A row of the metric table.
ROW = r"^\| `(\w+)` \| ([^|]*) \| (.+) \|$"
EVERY = dict(commands("lemctl", typer.main.get_command(whole_app())))


def test_some_options_have_a_second_name_that_turns_them_off() -> None:
    """Else the test below would not see them."""
    second = {option for command in EVERY.values() for each in command.params for option in each.secondary_opts}
    assert {"--no-samples", "--no-prompts"} <= second


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_command_and_option_is_documented(name: str) -> None:
    page = docs.cli_page()
    assert f"### `{name}`" in page
    section = page.split(f"### `{name}`\n", 1)[1].split("\n## ")[0].split("\n### ")[0]
    assert EVERY[name].help, f"{name} has no help"
    for parameter in EVERY[name].params:
        options = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
        for option in options:
            assert f"`{option}`" in section, f"{name} {option}"
        assert parameter.help, f"{name} {parameter.name} has no help"


def test_the_pages_in_the_checkout_are_not_stale() -> None:
    assert docs.stale() == [], "write them with `make docs`"


def test_a_page_that_differs_is_found_stale(tmp_path: Path) -> None:
    docs.write(tmp_path)
    assert docs.stale(tmp_path) == []
    (tmp_path / "schema.md").write_text("old")
    (tmp_path / "metrics.md").unlink()
    assert docs.stale(tmp_path) == ["schema.md", "metrics.md"]


def test_every_metric_has_a_row_with_unit_and_meaning() -> None:
    rows = {name: (unit, meaning) for name, unit, meaning in re.findall(ROW, docs.metrics_page(), re.MULTILINE)}
    for name, metric in {**METRICS, **FACTOR_METRICS}.items():
        unit, meaning = rows[name]
        assert unit == metric.unit, name
        assert meaning.strip(), name


def test_every_setting_has_a_row_with_its_meaning() -> None:
    rows = re.findall(
        r"^\| `LEM_[A-Z0-9_]+` \| `([a-z0-9_]+)` \| .* \| ([^|]+) \|$", docs.settings_page(), re.MULTILINE
    )
    assert {name for name, meaning in rows if meaning.strip()} == set(Settings.model_fields)


def test_the_schema_page_holds_every_table() -> None:
    page = docs.schema_page()
    for table in ("campaigns", "runs", "attempts", "metrics", "transitions", "live"):
        assert f"## {table}\n" in page


def test_pages_name_no_folder_of_the_machine_that_wrote_them() -> None:
    for name, text in docs.pages().items():
        assert str(Path.home()) not in text, name
        assert str(docs.REFERENCE.parents[1]) not in text, name


def test_what_the_readme_says_to_type_can_be_typed(tmp_path: Path, lemctl: Lemctl) -> None:
    """Its campaign is valid, its commands and its targets exist, its links lead somewhere."""
    text = (REPO / "README.md").read_text("utf-8")
    file = tmp_path / "batch-night.yaml"
    file.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    assert lemctl("config", "validate", str(file)).code == 0
    verbs = set(re.findall(r"lemctl ((?:campaign|images|results) [a-z]+|status|report)", text))
    assert len(verbs) >= 5
    for words in verbs:
        assert lemctl(*words.split(), "--help").code == 0
    makefile = (REPO / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (REPO / link).exists(), link
