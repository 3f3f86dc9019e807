"""What `doctor` finds on hosts that are made up in a folder, on GPUs of the stand-in, and what keeps a start back."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from build import Night as Past
from command_line import PLAN, Lemctl

from lemctl.cli import checks, checks_gpu, checks_host
from lemctl.clock import SystemClock, utc_text
from lemctl.daemon.locks import FileLock
from lemctl.engines import docker
from lemctl.engines.backends import Backend
from lemctl.paths import Home
from lemctl.settings import Settings, load_settings
from lemctl.store import live, samples
from letterbox import letterbox
from night import Night, campaign_text

sys.path.insert(0, str(Path(__file__).parents[2] / "nvml_stub"))

from nvml_stub import NvmlStub


def put(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("available_kb", "word", "words"),
    [(8_000_000, "OK", "8.2 GB of 16.4 GB available, 1.0 GB swapped out"), (500_000, "FAIL", "512.0 MB")],
)
def test_memory(tmp_path: Path, available_kb: int, word: str, words: str) -> None:
    text = f"MemTotal: 16000000 kB\nMemAvailable: {available_kb} kB\nSwapTotal: 2000000 kB\nSwapFree: 1000000 kB\n"
    put(tmp_path, "proc/meminfo", text)
    found = checks_host.memory(tmp_path)
    assert found.word == word
    assert words in found.detail


def test_memory_that_is_not_told_keeps_nothing_back(tmp_path: Path) -> None:
    assert checks_host.memory(tmp_path).word == "NOTE"


@pytest.mark.parametrize(
    ("names", "word"), [((), "OK"), (("performance",) * 2, "OK"), (("performance", "powersave"), "NOTE")]
)
def test_governor(tmp_path: Path, names: tuple[str, ...], word: str) -> None:
    for number, name in enumerate(names):
        put(tmp_path, f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor", name + "\n")
    found = checks_host.governor(tmp_path)
    assert found.word == word
    assert word == "OK" or ("powersave" in found.detail and "cpupower" in found.fix)


def test_timers_that_would_disturb_the_night(tmp_path: Path) -> None:
    assert checks_host.timers(tmp_path).word == "OK"
    put(tmp_path, "usr/lib/systemd/system/timers.target.wants/apt-daily.timer")
    put(tmp_path, "etc/systemd/system/timers.target.wants/fstrim.timer")
    put(tmp_path, "etc/systemd/system/timers.target.wants/lemctl-report.timer")
    put(tmp_path, "etc/cron.daily/plocate")
    assert checks_host.timers(tmp_path).detail == "1 heavy job: cron.daily/plocate", "no systemd, no timers"
    put(tmp_path, "run/systemd/system/x")
    (tmp_path / "etc/systemd/system/apt-daily.timer").symlink_to("/dev/null")  # masked
    found = checks_host.timers(tmp_path)
    assert (found.word, found.detail) == ("NOTE", "2 heavy jobs: fstrim.timer, cron.daily/plocate")


def test_the_clock_is_set() -> None:
    first, *_ = checks_host.clock()
    assert first.word == "OK"


@pytest.mark.parametrize(("answer", "told"), [(0, True), (1, True), (5, False), (-1, None)])
def test_what_the_kernel_says_of_its_clock(answer: int, told: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(adjtimex=lambda _: answer)
    monkeypatch.setattr(checks_host.ctypes, "CDLL", lambda *_, **__: library)
    assert checks_host.is_synchronised() is told
    lines = {check.name: check.word for check in checks_host.clock()}
    assert lines.get("clock synchronised") == {True: "OK", False: "NOTE", None: None}[told]


def test_gpus_with_their_modes_and_users(lemctl: Lemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = NvmlStub(tmp_path, gpus=2)
    for name, value in host.host_environment().items():
        monkeypatch.setenv(name, value)
    host.gpu(1).set_processes(4711)
    found = {check["name"]: check for check in json.loads(lemctl("doctor", "--json").out)["checks"]}
    assert found["GPU"]["result"] == "OK"
    assert found["GPU users"]["result"] == "NOTE"
    assert "1: 4711" in found["GPU users"]["detail"]
    for name in ("driver", "persistence", "MIG", "power limit", "kernel log"):
        assert name in found
        assert found[name]["result"] == "OK" or found[name]["fix"]
    assert "container toolkit" not in found, "the local executor needs none"


def test_a_gpu_that_is_kept_out_is_told_with_the_command_that_lets_it_in(lived_in: Past, lemctl: Lemctl) -> None:
    def kept_out() -> dict[str, str]:
        checks = json.loads(lemctl("doctor", "--json").out)["checks"]
        return next(check for check in checks if check["name"] == "GPUs kept out")

    assert kept_out()["result"] == "OK"
    with lived_in.store.transaction() as tx:
        samples.know_device(tx, "GPU-a", {})
        samples.quarantine(tx, ["GPU-a"], "GPU GPU-a is lost (power)", lived_in.clock)
    said = kept_out()
    assert (said["result"], said["detail"]) == ("NOTE", "GPU-a: GPU GPU-a is lost (power)")
    assert "`lemctl campaign resume NAME`" in said["fix"]


def test_a_gpu_host_without_the_toolkit_is_not_fit_for_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(checks_gpu, "CDI_FOLDERS", (tmp_path / "cdi",))
    assert checks_gpu._toolkit().word == "FAIL"
    put(tmp_path, "cdi/nvidia.yaml")
    assert checks_gpu._toolkit().word == "OK"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LEM_MIN_FREE_DISK_MB", "999999999", "disk: "),
        ("LEM_LOCK_DIR", "/proc/nowhere", "lock folder: /proc/nowhere"),
    ],
)
def test_a_start_on_an_unfit_host_exits_4_with_the_remedy_and_queues_nothing(
    lemctl: Lemctl, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    file = tmp_path / "campaign.yaml"
    file.write_text(PLAN)
    said = lemctl("campaign", "start", str(file))
    assert said.code == 4
    assert words in said.err
    assert "; next: " in said.err
    assert not home.database.exists()


def test_a_start_without_a_docker_engine_exits_4(
    lemctl: Lemctl, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    file = tmp_path / "campaign.yaml"
    file.write_text(PLAN)
    said = lemctl("campaign", "start", str(file), "--executor", "docker")
    assert said.code == 4
    assert "docker" in said.err
    assert not home.database.exists()


@pytest.mark.parametrize(("more", "word"), [("", "container toolkit"), ("gpus: []\n", "missing")])
def test_a_start_for_gpus_in_containers_without_the_toolkit_exits_4(
    lemctl: Lemctl, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, word: str
) -> None:
    """Where the campaign uses no GPU, nobody asks for it."""
    for name, value in NvmlStub(tmp_path).host_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(checks_gpu, "CDI_FOLDERS", (tmp_path / "cdi",))
    monkeypatch.setattr(checks, "_engine_and_its_disk", lambda settings: [])
    file = tmp_path / "campaign.yaml"
    file.write_text(PLAN + more)
    said = lemctl("campaign", "start", str(file), "--executor", "docker")
    assert said.code == 4
    assert said.err.startswith(f"lemctl: {word}: ")
    assert ("install the NVIDIA Container Toolkit" in said.err) == (not more)
    assert len(said.err.splitlines()) == 1
    assert not home.database.exists()


@pytest.mark.parametrize("is_held", [True, False])
def test_no_container_is_brought_up_on_a_gpu_that_a_campaign_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_held: bool
) -> None:
    """It may be in the middle of a window."""
    probed: list[Sequence[str]] = []

    def probe(settings: Settings, backend: Backend, gpus: Sequence[str]) -> None:
        probed.append(gpus)

    monkeypatch.setattr(docker, "probe_nvml", probe)
    monkeypatch.setattr(checks_gpu, "TOOLKIT", ("true",))
    monkeypatch.setattr(checks_gpu, "missing_images", lambda names: [])
    settings = load_settings(home=tmp_path / "home", lock_dir=tmp_path)
    held = [FileLock.take(tmp_path / "GPU-2", "pid 4711")] if is_held else []
    found = list(checks_gpu.in_containers(settings, ["GPU-1", "GPU-2"], ["pytorch"]))
    for lock in held:
        lock.release()
    assert probed == ([] if is_held else [["GPU-1", "GPU-2"]])
    assert all(check.is_ok for check in found)
    assert ("pid 4711" in found[1].detail) == is_held


@pytest.mark.parametrize(("age_s", "word"), [(120, "daemon: pid 4711 hangs"), (1, "missing: ")])
def test_a_start_beside_a_daemon_that_hangs_exits_4(
    lived_in: Past, lemctl: Lemctl, home: Home, tmp_path: Path, age_s: float, word: str
) -> None:
    """It holds its lock, and its heart does not beat."""
    heartbeat = SystemClock().utc() - timedelta(seconds=age_s)
    with lived_in.store.transaction() as tx:
        document = {"pid": 4711, "heartbeat_utc": utc_text(heartbeat), "state": "idle", "waits_for": None}
        live.put(tx, "daemon", document, lived_in.clock)
    file = tmp_path / "campaign.yaml"
    file.write_text(PLAN)
    lock = FileLock.take(home.daemon_lock, "4711")
    try:
        said = lemctl("campaign", "start", str(file))
        code = lemctl("doctor").code
    finally:
        lock.release()
    assert said.code == 4
    assert said.err.startswith(f"lemctl: {word}")
    assert ("`kill -9 4711`" in said.err) == (age_s > 30)
    assert code == (4 if age_s > 30 else 0)
    assert lived_in.store.connection.execute("SELECT 1 FROM campaigns WHERE name = 'night'").fetchall() == []


def test_a_start_of_an_engine_whose_interpreter_does_not_run_exits_4(
    lemctl: Lemctl, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEM_PYTHON_REPLAY", str(tmp_path / "python"))
    file = tmp_path / "campaign.yaml"
    file.write_text(PLAN)
    said = lemctl("campaign", "start", str(file))
    assert said.code == 4
    assert "engine replay: " in said.err
    assert "export LEM_PYTHON_REPLAY=" in said.err
    assert not home.database.exists()


def test_notifications_that_did_not_arrive_are_found(lemctl: Lemctl, home: Home) -> None:
    with letterbox() as box:
        box.refuses = True
        with Night(home.root.parent) as real:
            path = real.home.notify
            real.home.create()
            (path / "LEM_NOTIFY").write_text(box.address)
            (path / "LEM_NOTIFY").chmod(0o600)
            real.add(campaign_text(more="notify: {urls_from: LEM_NOTIFY}"))
            real.begin()
            real.wait_for(lambda: bool(real.rows("SELECT 1 FROM outbox WHERE error IS NOT NULL")), "the refusal", 60)
            real.end()
        found = {check["name"]: check for check in json.loads(lemctl("doctor", "--json").out)["checks"]}
    assert found["notifications"]["result"] == "NOTE"
    assert "was not delivered to LEM_NOTIFY" in found["notifications"]["detail"]
