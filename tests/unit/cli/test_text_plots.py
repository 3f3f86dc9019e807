"""`results show` draws what was read, in eighty columns: the same on a terminal and into a pipe.

`LEM_UPDATE_GOLDEN=1 pytest tests/unit/cli/test_text_plots.py` writes the file anew; the diff is then looked at.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from build import BOOT, Night, metric_rows, plan_of

from lemctl.paths import Home
from lemctl.store.moves import WindowRow, end_ok, note_facts
from lemctl.store.read_traces import POWER_CAP_BIT
from lemctl.store.samples import add_samples, know_device

GOLDEN = Path(__file__).parents[2] / "golden" / "cli" / "results-show-plots.txt"
LEMCTL = [sys.executable, "-c", "from lemctl.cli.main import main; main()"]
GPU = "GPU-8b0e6ad8-7c3f-4f5a-9d2e-0123456789ab"
S = 1_000_000_000
#: (phase, second of its beginning, power in W through it).
PHASES = (
    ("starting", 0, 60), ("loading", 4, 250), ("cooling", 16, 90), ("baseline", 30, 90), ("warmup", 34, 600),
    ("window", 42, 700), ("baseline", 58, 100), ("writing", 62, 80),
)  # fmt: skip
LENGTH_S = 64
HOLE_S = range(20, 24)
SLOWED_S = range(50, 52)
THERMAL_BIT = 0x20
PERCENT = [0, 10, 50, 90, 100]
LATENCY = {
    "ttft": {"n": 1200, "percent": PERCENT, "s": [0.010, 0.012, 0.020, 0.045, 0.130]},
    "e2e": {"n": 1200, "percent": PERCENT, "s": [0.8, 0.9, 1.0, 1.1, 2.0]},
}


@pytest.fixture
def measured(home: Home) -> Iterator[Night]:
    """One run of 64 s with a reading each half second, a hole in it, a power cap, two seconds of heat."""
    night = Night(home)
    night.add(plan_of(cycles=1))
    night.activate()
    run, _ = night.runs()
    begin_ns = night.clock.monotonic_ns()
    attempt = night.begin(run)
    night.clock.advance(LENGTH_S - 2.0)
    with night.store.transaction() as tx:
        devices = {GPU: know_device(tx, GPU, {"name": "NVIDIA H100"})}
        timeline = [[phase, begin_ns + second * S] for phase, second, _ in PHASES]
        note_facts(tx, attempt.id, {"timeline": timeline, "latency": LATENCY})
        window = WindowRow(0, begin_ns + 42 * S, begin_ns + 58 * S, 4, 1200, 128, 256)
        end_ok(tx, attempt, night.clock, "VALID", [window], metric_rows(None), [])
    add_samples(night.store, devices, BOOT, [_sample(begin_ns, half) for half in range(2 * LENGTH_S) if _is_read(half)])
    yield night
    night.close()


def _is_read(half_s: int) -> bool:
    return half_s // 2 not in HOLE_S


def _sample(begin_ns: int, half_s: int) -> SimpleNamespace:
    second = half_s / 2
    phase, _, power_w = next(one for one in reversed(PHASES) if one[1] <= second)
    bits = POWER_CAP_BIT if phase == "window" else 0
    bits |= THERMAL_BIT if int(second) in SLOWED_S else 0
    reading = {"power_mw": power_w * 1000, "temp_c": 30 + int(second) // 2, "event_reasons": bits}
    return SimpleNamespace(gpu=GPU, series="power", t_mono_ns=begin_ns + half_s * S // 2, reading=reading)


def plots(text: str) -> str:
    """What was drawn."""
    found = re.search(r"^  power of .*?(?=^transitions$)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, text
    return found[0].rstrip() + "\n"


def piped(*words: str) -> str:
    """What the command writes into a pipe."""
    done = subprocess.run([*LEMCTL, *words], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def at_a_terminal(*words: str, columns: int = 80, rows: int = 24) -> str:
    """What the command writes on a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*LEMCTL, *words], stdin=theirs, stdout=theirs, stderr=theirs, env={**clean, "TERM": "xterm-256color"}
    )
    os.close(theirs)
    said = b""
    try:
        while block := _read(ours):
            said += block
        assert process.wait(60) == 0, said
    finally:
        process.kill()
        os.close(ours)
    return said.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: whoever wrote has closed it
        return b""


def test_power_and_latencies_are_drawn_as_recorded(measured: Night) -> None:
    drawn = plots(piped("results", "show", "1"))
    if os.environ.get("LEM_UPDATE_GOLDEN"):
        GOLDEN.write_text(drawn, "utf-8")
    assert drawn == GOLDEN.read_text("utf-8"), "LEM_UPDATE_GOLDEN=1 writes it anew"


def test_a_terminal_and_a_pipe_show_the_same_plots_in_eighty_columns(measured: Night) -> None:
    on_screen, in_pipe = at_a_terminal("results", "show", "1"), piped("results", "show", "1")
    assert plots(on_screen) == plots(in_pipe)
    assert max(map(len, plots(on_screen).splitlines())) <= 80
    assert "\033" not in in_pipe


def test_each_column_of_the_curve_is_the_mean_power_of_its_second(measured: Night) -> None:
    lines = plots(piped("results", "show", "1")).splitlines()
    assert lines[0] == "  power of GPU-8b0e6ad8: 60 to 700 W, 30 to 61 C, over 1 min 04 s"
    curve = [line[10:].ljust(LENGTH_S) for line in lines[1:8]]
    for second in range(LENGTH_S):
        eighths = sum(" ▁▂▃▄▅▆▇█".index(row[second]) for row in curve)
        power_w = next(power_w for _, begin, power_w in reversed(PHASES) if begin <= second)
        assert eighths == (0 if second in HOLE_S else round(56 * power_w / 700)), second
    below = {line[:10].strip(): line[10:].ljust(LENGTH_S) for line in lines[8:12]}
    letters = {"loading": "l", "cooling": "c", "baseline": "b", "warmup": "u", "window": "W"}
    wanted = [next(phase for phase, begin, _ in reversed(PHASES) if begin <= second) for second in range(LENGTH_S)]
    assert below["phase"] == "".join(letters.get(phase, ".") for phase in wanted)
    held = ["!" if s in SLOWED_S else "^" if phase == "window" else " " for s, phase in enumerate(wanted)]
    assert below["held"] == "".join(held)


def test_a_histogram_holds_the_share_of_requests_in_each_step(measured: Night) -> None:
    lines = plots(piped("results", "show", "1")).splitlines()
    begin = lines.index("  ttft: 1,200 times, median 20 ms")
    shares = [float(line.split()[-2]) for line in lines[begin + 1 : begin + 13]]
    # Twelve steps of 10 ms from 10 to 130 ms. In the first: all up to 20 ms, the median; 45 ms is passed by a tenth.
    assert shares[0] == 50.0
    assert shares[1:3] == [16.0, 16.0]
    assert sum(shares[:4]) == pytest.approx(90 + 10 * 5 / 85, abs=0.2)
    assert sum(shares) == pytest.approx(100, abs=0.6)
    bars = [len(line[12:44].strip()) for line in lines[begin + 1 : begin + 13]]
    assert bars[0] == 32, "the fullest step is the longest bar"


def test_reasons_are_wrapped_at_a_terminals_edge_and_whole_in_a_pipe(measured: Night) -> None:
    with measured.store.transaction() as tx:
        tx.execute("UPDATE metrics SET reason = ? WHERE reason IS NOT NULL", ("the meter said nothing " * 6,))
    on_screen = at_a_terminal("results", "show", "1")
    table = re.search(r"^  metric .*?(?=\n\n)", on_screen, re.DOTALL | re.MULTILINE)
    assert table is not None
    assert max(map(len, table[0].splitlines())) <= 80
    assert " ".join(table[0].split()).count("said nothing") >= 5
    assert ("the meter said nothing " * 6).strip() in piped("results", "show", "1")
