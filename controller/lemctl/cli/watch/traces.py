"""The sensors of one GPU on the live screen: which GPU it is, and a line of blocks for each of its histories."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Sparkline

from lemctl.cli.watch.picture import TRACES, History, Picture
from lemctl.cli.watch.words import Words
from lemctl.report.status import GpuNow

NO_SENSORS = "no GPU readings in the last two minutes"
#: An open lane reads its GPUs once a second and the screen looks every other one: what is older than this has stopped.
STALE_S = 5.0


class Traces(Container):
    """One of the GPUs that were read of late; the others come by `show_next`."""

    def __init__(self) -> None:
        super().__init__(id="traces")
        self._picture: Picture | None = None
        self._histories: list[History] = []
        self._chosen: str | None = None

    def compose(self) -> ComposeResult:
        """A line that names the GPU, two by two traces; or the one line that says that there is nothing."""
        yield Words(id="gpu")
        with Container(id="grid"):
            for index, name in enumerate(TRACES):
                with Container(classes="trace", id=f"trace-{index}"):
                    yield Words(name)
                    yield Sparkline([], summary_function=max)
        yield Words(NO_SENSORS, id="no-sensors")

    def show(self, picture: Picture) -> None:
        """What was read until now."""
        self._picture = picture
        self._histories = [history for history in picture.histories if history.seconds]
        is_blind = not self._histories
        self.set_class(is_blind, "none")
        self.query_one("#gpu").display = self.query_one("#grid").display = not is_blind
        self.query_one("#no-sensors").display = is_blind
        if not is_blind:
            self._show_one(self._histories[self._place()], picture)

    def show_next(self) -> None:
        """Another GPU, if there is one."""
        if self._histories and self._picture is not None:
            self._chosen = self._histories[(self._place() + 1) % len(self._histories)].device.uuid
            self.show(self._picture)

    def _place(self) -> int:
        """Where the chosen GPU stands; the first one takes the place of one that has gone."""
        uuids = [history.device.uuid for history in self._histories]
        return uuids.index(self._chosen) if self._chosen in uuids else 0

    def _show_one(self, history: History, picture: Picture) -> None:
        age_s = (picture.at_ns - history.seen_ns) / 1e9
        is_stale = age_s > STALE_S
        now = next((gpu for gpu in picture.status.gpus if gpu.uuid == history.device.uuid), None)
        state = f": last read {age_s:.0f} s ago" if is_stale else "" if now is None else f": {_state(now)}"
        self.query_one("#gpu", Words).say(history.device.title + state)
        for index, (name, (_, _, unit)) in enumerate(TRACES.items()):
            value = None if is_stale else history.now(name)
            told = "—" if value is None else f"{value:.0f} {unit}"
            trace = self.query_one(f"#trace-{index}")
            trace.query_one(Words).say(f"{name:<12}{told}")
            # Held where nothing was told: a gap must not look like a fall to 0.
            trace.query_one(Sparkline).data = _held(history.values[name])


def _state(now: GpuNow) -> str:
    return f"{now.limits}, {now.cooling}" if now.cooling else now.limits


def _held(values: Sequence[float | None]) -> list[float]:
    held: list[float] = []
    for value in values:
        if value is not None:
            held.append(value)
        elif held:
            held.append(held[-1])
    return held
