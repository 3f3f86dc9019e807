"""Messages name a place in the documentation, and every such place is there."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from build import Night
from command_line import PLAN, Lemctl

from lemctl import errors
from lemctl.cli import checks, checks_engine, checks_gpu, checks_host
from lemctl.cli.finding import Check
from lemctl.cli.main import EXIT_CODES
from lemctl.judge.verdict import RULES

REPO = Path(__file__).parents[3]
PAGE = (REPO / errors.TROUBLESHOOTING).read_text("utf-8")
ANCHORS = set(re.findall(r"\{ #(\S+) \}", PAGE))


def every_error(family: type[errors.LemctlError] = errors.LemctlError) -> Iterator[type[errors.LemctlError]]:
    yield family
    for child in family.__subclasses__():
        yield from every_error(child)


def names_of_checks() -> set[str]:
    """The first argument of each `Check(...)`, or of what makes one; of an f-string what stands before its value."""
    found = set()
    for module in (checks, checks_engine, checks_gpu, checks_host):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Check", "_room"):
                first = node.args[0]
                first = first.values[0] if isinstance(first, ast.JoinedStr) else first
                if isinstance(first, ast.Constant):
                    found.add(str(first.value).strip())
    return found


def test_no_anchor_stands_twice() -> None:
    assert len(ANCHORS) == len(re.findall(r"\{ #(\S+) \}", PAGE))


@pytest.mark.parametrize("kind", errors.FAULT_KINDS)
def test_each_kind_of_failure_is_explained(kind: str) -> None:
    assert kind in ANCHORS


@pytest.mark.parametrize("code", [code for code in EXIT_CODES if code])
def test_each_exit_code_is_explained(code: int) -> None:
    assert f"exit-{code}" in ANCHORS


@pytest.mark.parametrize(
    "error", [*every_error(errors.PersonsMistake), errors.StoreUnusable, errors.DiskFull], ids=lambda e: e.__name__
)
def test_each_error_leads_somewhere(error: type[errors.LemctlError]) -> None:
    assert error.anchor in ANCHORS


def test_each_check_of_doctor_is_explained() -> None:
    names = names_of_checks()
    assert len(names) > 25
    assert {name: Check(name, True, "").anchor for name in names if Check(name, True, "").anchor not in ANCHORS} == {}


def test_each_reason_against_a_figure_is_explained() -> None:
    source = Path(RULES[0].__code__.co_filename).read_text()
    codes = set(re.findall(r'Finding\("(\w+)"', source)) | {"configuration_differs"}
    assert len(codes) > 15
    assert codes - set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set()


def test_a_failure_names_its_place(lived_in: Night, lemctl: Lemctl) -> None:
    place = f"{errors.TROUBLESHOOTING}#engine_error"
    assert place in lemctl("logs", "2").out
    assert place in lemctl("status").out


def test_a_refusal_names_its_place(lemctl: Lemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_MIN_FREE_DISK_MB", "999999999")
    file = tmp_path / "c.yaml"
    file.write_text(PLAN)
    said = lemctl("campaign", "start", str(file))
    assert said.code == 4
    assert f"{errors.TROUBLESHOOTING}#check-disk" in said.err


def test_doctor_names_a_place_with_each_fault(lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_MIN_FREE_DISK_MB", "999999999")
    assert f"{errors.TROUBLESHOOTING}#check-disk" in lemctl("doctor").out
    told = json.loads(lemctl("doctor", "--json").out)["checks"]
    assert all(check["page"].partition("#")[2] in ANCHORS for check in told)


def test_a_wrong_call_a_wrong_file_and_a_wrong_name_name_their_place_on_one_line(
    lived_in: Night, lemctl: Lemctl, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(PLAN + "colour: red\n")
    for call, code, anchor in (
        (("results", "compare", "demo#1", "demo", "--fail-if", "better"), 2, "exit-2"),
        (("config", "validate", str(file)), 2, "refused-file"),
        (("campaign", "show", "nobody"), 7, "exit-7"),
    ):
        said = lemctl(*call)
        assert said.code == code
        (line,) = said.err.splitlines()
        assert line.endswith(f"({errors.TROUBLESHOOTING}#{anchor})")


def test_an_absent_daemon_names_its_place(lived_in: Night, lemctl: Lemctl) -> None:
    said = lemctl("campaign", "pause", "demo")
    assert said.code == 6
    assert said.err.rstrip().endswith(f"({errors.TROUBLESHOOTING}#exit-6)")
