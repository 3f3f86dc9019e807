"""What `lemctl doctor` looks at on the host itself: memory, clock, governor, timers that would disturb the night."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

from lemctl.cli.finding import Check
from lemctl.clock import boot_id
from lemctl.lines import plural, size
from lemctl.measure.memory import LEAST_MEMORY_B, meminfo_b

#: A clock before this moment was never set.
NOT_BEFORE_UNIX_S = 1_735_689_600.0
#: adjtimex(2): the clock is not synchronised.
TIME_ERROR = 5
#: Timers that keep CPUs and disks busy for minutes when they fire.
HEAVY_TIMERS = (
    "apt-daily", "apt-daily-upgrade", "unattended-upgrades", "dnf-automatic", "dnf-makecache", "fstrim", "man-db",
    "plocate-updatedb", "mlocate-updatedb", "updatedb", "e2scrub_all", "raid-check", "mdcheck_start", "btrfs-scrub",
    "zfs-scrub", "snapd.snap-repair", "fwupd-refresh", "logrotate", "dpkg-db-backup", "cron-apt",
)  # fmt: skip
HEAVY_CRON = ("updatedb", "mlocate", "plocate", "locate", "apt-compat", "man-db", "mdadm", "zfsutils-linux", "aide")


def memory(root: Path = Path("/")) -> Check:
    """Memory that is free for runs, and whether the host swaps."""
    found = meminfo_b(root)
    if "MemAvailable" not in found:
        return Check("memory", False, "the kernel does not tell", "look with `free -m`", is_needed=False)
    swapped_b = found.get("SwapTotal", 0) - found.get("SwapFree", 0)
    detail = f"{size(found['MemAvailable'])} of {size(found.get('MemTotal', 0))} available"
    detail += f", {size(swapped_b)} swapped out" if swapped_b > 0 else ""
    return Check("memory", found["MemAvailable"] >= LEAST_MEMORY_B, detail, "end what holds it: `ps aux --sort -rss`")


def clock() -> Iterator[Check]:
    """Set at all, with a boot id; and kept right by somebody: a step in mid-window makes a result invalid."""
    is_set = time.time() > NOT_BEFORE_UNIX_S
    has_boot = boot_id() != "unknown"
    said = "set" if is_set else "was never set"
    boot = "boot id readable" if has_boot else "no boot id: times of different boots cannot be told apart"
    yield Check("clock", is_set and has_boot, f"{said}, {boot}", "timedatectl set-ntp true")
    synchronised = is_synchronised()
    if synchronised is not None:
        detail = "kept by a time service" if synchronised else "kept by nobody: it drifts, and may be stepped"
        yield Check("clock synchronised", synchronised, detail, "timedatectl set-ntp true", is_needed=False)


def is_synchronised() -> bool | None:
    """What the kernel thinks of its clock; None where it cannot be asked."""
    try:
        # struct timex is smaller than this everywhere; modes = 0 only reads.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def governor(root: Path = Path("/")) -> Check:
    """The CPU frequency governor: a powersaving one makes latencies depend on what ran before."""
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    found = sorted({text for file in files if (text := _read(file)) is not None})
    if not found:
        return Check("governor", True, "none: the host does not scale its CPUs, or does not tell")
    is_ok = found == ["performance"]
    return Check(
        "governor", is_ok, ", ".join(found), "cpupower frequency-set -g performance, for as long as you measure",
        is_needed=False,
    )  # fmt: skip


def timers(root: Path = Path("/")) -> Check:
    """Enabled systemd timers and cron jobs that are known to be heavy. Found by their files: no systemd is needed."""
    folders = [root / "etc/systemd/system/timers.target.wants", root / "usr/lib/systemd/system/timers.target.wants"]
    enabled = {p.name.removesuffix(".timer") for folder in folders if folder.is_dir() for p in folder.glob("*.timer")}
    masked = {
        p.name.removesuffix(".timer")
        for p in (root / "etc/systemd/system").glob("*.timer")
        if p.is_symlink() and str(p.readlink()) == "/dev/null"
    }
    fire = enabled - masked if (root / "run/systemd/system").is_dir() else set()
    heavy = [f"{name}.timer" for name in HEAVY_TIMERS if name in fire]
    heavy += [
        f"cron.{kind}/{name}"
        for kind in ("daily", "weekly")
        for name in HEAVY_CRON
        if (root / f"etc/cron.{kind}" / name).exists()
    ]
    if not heavy:
        return Check("timers", True, "none that is known to be heavy")
    fix = "for the night: systemctl stop NAME.timer, or move its hour; cron jobs by their hour in /etc/crontab"
    return Check("timers", False, f"{plural(len(heavy), 'heavy job')}: {', '.join(heavy)}", fix, is_needed=False)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
