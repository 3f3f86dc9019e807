"""What a command that works for long shows: a bar on a terminal, seldom a line elsewhere, nothing with `-q`."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import PLAN, Lemctl

from lemctl.cli import images, long_work, terminal
from lemctl.engines.containers import Containers
from lemctl.paths import Home
from lemctl.steps import BYTES, Step, counted

#: The command line, impatient: whatever it does counts as long.
DRIVER = """
from lemctl.cli import long_work
from lemctl.cli.main import main
drawn_on = long_work._draw
def draw_at_once(drawing, shown, is_over):
    drawing.draw(shown.step, 0.001)
    drawn_on(drawing, shown, is_over)
long_work._draw, long_work.BAR_AFTER_S, long_work.BAR_EVERY_S = draw_at_once, 0.01, 0.01
main()
"""
CEILING_S = 120


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A campaign of four short runs."""
    found = tmp_path / "night.yaml"
    found.write_text(PLAN)
    return found


@pytest.fixture
def rehearsed(file: Path, lemctl: Lemctl, home: Home) -> list[str]:
    """The words before every command on a campaign that was simulated."""
    assert lemctl("campaign", "start", str(file), "--simulate", "-q").code == 0
    return ["--home", str(home.root / "simulated")]


def on_a_terminal(words: list[str], cwd: Path, stdout: int | None = None, term: str = "xterm") -> tuple[int, str]:
    """Run a command with stdin, stderr and, unless given, stdout on a pseudo-terminal; its code and what was drawn."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": term, "COLUMNS": "100"}
    command = [sys.executable, "-c", DRIVER, *words]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs if stdout is None else stdout, stderr=theirs, cwd=cwd, env=environment
    ) as process:
        os.close(theirs)
        drawn = b""
        try:
            with suppress(OSError):  # what a terminal says when nobody is left at its other end
                while piece := os.read(ours, 65536):
                    drawn += piece
            code = process.wait(CEILING_S)
        finally:
            process.kill()
            os.close(ours)
    return code, drawn.decode()


def piped(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DRIVER, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=CEILING_S, check=False)


def test_a_rehearsal_on_a_terminal_has_a_bar_that_counts_its_runs(file: Path, home: Home, tmp_path: Path) -> None:
    file.write_text(PLAN.replace("cycles: 2", "cycles: 15"))
    code, drawn = on_a_terminal(["campaign", "start", str(file), "--simulate"], tmp_path)
    assert code == 0
    assert "of 30 runs" in drawn
    assert "simulating night" in drawn
    assert "━" in drawn
    # Erased in the end, with the cursor shown again; the result stays.
    assert drawn.rindex("\x1b[?25h") < drawn.rindex("simulated: campaign night finished, 30 done")


def test_waiting_for_a_campaign_on_a_terminal_shows_runs_as_they_end_above_the_bar(
    file: Path, home: Home, tmp_path: Path
) -> None:
    try:
        code, drawn = on_a_terminal(["campaign", "start", str(file), "--wait", "--prefetch"], tmp_path)
    finally:
        stopped = piped(["daemon", "stop"], tmp_path)
    assert code == 0, drawn
    assert stopped.returncode == 0
    assert "of 4 runs" in drawn
    assert "4/4  run 4" in drawn
    assert "campaign night: finished" in drawn


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["report", "night", "--html"], "night.html"),
        (["results", "export", "--samples", "-o", "samples.csv"], "samples.csv"),
        (["results", "bundle", "night"], "night.zip"),
    ],
)
def test_on_a_terminal_a_bar_is_drawn_and_erased_before_the_result(
    words: list[str], result: str, rehearsed: list[str], tmp_path: Path
) -> None:
    code, drawn = on_a_terminal([*rehearsed, *words], tmp_path)
    assert code == 0
    assert "\x1b[?25l" in drawn
    assert "━" in drawn
    assert result in drawn.rsplit("\x1b", 1)[-1]


def test_in_a_pipe_there_are_lines_without_bars_or_colour_and_none_with_quiet(
    rehearsed: list[str], tmp_path: Path
) -> None:
    said = piped([*rehearsed, "report", "night", "--html"], tmp_path)
    assert (said.returncode, said.stdout) == (0, "night.html\n")
    assert said.stderr.splitlines()[0] == "reading figures (1 ms)"
    assert not set("\x1b━\r") & set(said.stderr)
    silent = piped([*rehearsed, "report", "night", "--html", "-q"], tmp_path)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "night.html\n", "")


def test_rows_that_go_into_a_pipe_are_whole_while_the_bar_is_on_the_terminal(
    rehearsed: list[str], tmp_path: Path
) -> None:
    plain = piped([*rehearsed, "results", "export"], tmp_path).stdout
    with (tmp_path / "rows.csv").open("wb") as target:
        code, drawn = on_a_terminal([*rehearsed, "results", "export"], tmp_path, stdout=target.fileno())
    assert code == 0
    assert (tmp_path / "rows.csv").read_text() == plain
    assert "run" not in drawn.partition("exporting")[0]


def test_json_is_json_and_nothing_else(rehearsed: list[str], tmp_path: Path) -> None:
    said = piped([*rehearsed, "report", "night", "--json"], tmp_path)
    assert json.loads(said.stdout)["kind"] == "report"


def test_a_dumb_terminal_gets_lines(rehearsed: list[str], tmp_path: Path) -> None:
    code, drawn = on_a_terminal([*rehearsed, "report", "night"], tmp_path, term="dumb")
    assert code == 0
    assert "\x1b" not in drawn
    assert "reading figures (" in drawn


def test_prefetch_prints_each_step_once_and_what_grows_beside_it(
    lemctl: Lemctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lemctl.engines import prefetch

    def fetching(*arguments: object) -> None:
        tell = arguments[-1]
        assert callable(tell)
        for done in (0, 1_500_000, 3_000_000):
            tell(Step("model: fetching org/model", done, 3_000_000, BYTES))
            wait_until_drawn(shown, done)

    shown = Seen(monkeypatch)
    monkeypatch.setattr(prefetch, "prefetch", fetching)
    said = lemctl("images", "prefetch", str(file))
    assert said.out.count("model: fetching org/model") == 1
    assert said.err.count("(1.5 MB of 3.0 MB, ") == 1


def test_a_build_shows_its_numbered_steps(lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: Containers, __: Path, ___: object, on_line: Iterator[str]) -> None:
        assert callable(on_line)
        for number, line in enumerate(("Step 1/9 : FROM base", "#7 [wheels 3/9] RUN pip install", "#8 [4/9] COPY a b")):
            on_line(line)
            wait_until_drawn(shown, (0, 2, 3)[number])

    shown = Seen(monkeypatch)
    monkeypatch.setattr(Containers, "build", build)
    said = lemctl("images", "build", "pytorch")
    assert said.code == 0
    assert "Step 1/9 : FROM base" in said.out
    image = images._backend("pytorch").image_ref
    assert f"building {image}: RUN pip install (2 of 9 steps, " in said.err
    assert f"building {image}: COPY a b (3 of 9 steps, " in said.err


class Seen:
    """The counts that were drawn, each once, as lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[int | None] = []
        draw = long_work._Lines.draw

        def seen(drawing: long_work._Lines, step: Step, elapsed_s: float) -> None:
            if step.done not in self.done:
                draw(drawing, step, elapsed_s)
                self.done.append(step.done)

        monkeypatch.setattr(long_work._Lines, "draw", seen)
        monkeypatch.setattr(long_work, "PLAIN_AFTER_S", 0.005)
        monkeypatch.setattr(long_work, "PLAIN_EVERY_S", 0.005)


def wait_until_drawn(shown: Seen, done: int) -> None:
    until = time.monotonic() + CEILING_S
    while done not in shown.done:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_what_is_over_soon_shows_nothing_and_imports_no_rich(rehearsed: list[str], tmp_path: Path) -> None:
    program = "import sys\nfrom lemctl.cli.main import run\nrun(sys.argv[1:])\nsys.exit('rich' in sys.modules)"
    words = [*rehearsed, "results", "export", "-o", "rows.csv"]
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=CEILING_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_of_stderr_that_has_gone_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_quiet", False)
    monkeypatch.setattr(sys, "stderr", Closing())
    monkeypatch.setattr(long_work, "PLAIN_AFTER_S", 0.001)
    with long_work.long_work("working") as tell:
        stderr = sys.stderr
        assert isinstance(stderr, Closing)
        until = time.monotonic() + CEILING_S
        while not stderr.tries:
            assert time.monotonic() < until
            tell(Step("working on"))


class Closing(io.StringIO):
    """A pipe whose reader has left."""

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise BrokenPipeError


def test_quiet_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_quiet", True)
    before = threading.active_count()
    with long_work.long_work("working") as tell:
        tell(Step("working", 1, 2))
        assert threading.active_count() == before


@pytest.mark.parametrize(
    ("step", "amount"),
    [
        (Step("a"), ""),
        (Step("a", 0, 3, "runs"), "0 of 3 runs"),
        (Step("a", 12_000, None, "rows"), "12,000 rows"),
        (Step("a", 1_500_000, 2_000_000_000, BYTES), "1.5 MB of 2.0 GB"),
        (Step("a", 20, None, BYTES), "20 B"),
    ],
)
def test_an_amount_says_how_far_of_how_much(step: Step, amount: str) -> None:
    assert step.amount == amount


def test_counted_rows_are_the_rows() -> None:
    told: list[Step] = []
    assert list(counted("ab", told.append, "reading", "letters", 2)) == ["a", "b"]
    assert [step.done for step in told] == [0, 1]
