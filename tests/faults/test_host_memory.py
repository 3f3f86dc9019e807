"""Memory pressure of the host: new runs are held until there is memory again, and whoever must go is not the daemon."""

from __future__ import annotations

from pathlib import Path

from lemctl.engines.local import OOM_SCORE_ADJUST
from needed import needs
from night import Night, campaign_text

#: Runs of some 1.6 s.
LONG = campaign_text(cycles=3).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 100")


class Memory:
    """What the kernel tells the daemon of its host: a file in the place of /proc/meminfo, in its mount namespace."""

    def __init__(self, file: Path):
        self.file = file
        shown = 'mount --bind "$0" /proc/meminfo && exec "$@"'
        self.prefix = ["unshare", "--mount", "sh", "-c", shown, str(file)]

    def leave(self, mb: int) -> None:
        self.file.write_text(f"MemTotal: 16000000 kB\nMemAvailable: {mb * 1000} kB\n")


@needs("root", "mount")
def test_a_host_short_of_memory_starts_no_run_until_there_is_some_and_fails_none(night: Night, tmp_path: Path) -> None:
    memory = Memory(tmp_path / "meminfo")
    memory.leave(mb=8000)
    night.add(LONG)
    night.begin(memory.prefix)
    night.wait_until_under_way()
    memory.leave(mb=500)
    night.wait_for(lambda: "memory of this host: 512.0 MB available" in night.waits_for(), "word of the memory")
    held = night.attempts()
    assert [outcome for outcome, *_ in held] == ["ok"] * len(held), "the run under way is not its victim"
    assert len(held) < 3
    assert night.campaign() == "Active"
    memory.leave(mb=8000)
    night.wait_campaign()
    assert night.statuses() == ["Done"] * 3
    assert night.attempts() == [("ok", None, None)] * 3
    night.end()
    night.audit()


def test_where_memory_runs_out_an_engine_goes_before_the_daemon(night: Night) -> None:
    night.add(LONG)
    daemon = night.begin()
    runner = night.runner_pid()
    scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (daemon.pid, runner)]
    assert scores[1] == max(OOM_SCORE_ADJUST, min(scores[0] + 100, 1000))
    assert scores[1] > scores[0]
    night.wait_campaign()
    night.end()
    night.audit()
