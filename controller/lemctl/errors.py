"""Every error that lemctl raises by itself, as one tree of three families.

    LemctlError
    |-- PersonsMistake        a person can mend it: one line, no traceback, an exit code of its own
    |   |-- CampaignFileError     2   file, line, key
    |   |-- UsageMistake          2   the call is wrong
    |   |-- RunsFailed            3   the campaign ended with failed runs
    |   |-- PreflightRefused      4   something needed is missing; says the command that mends it
    |   |-- Locked                5   somebody else holds it
    |   |-- NoDaemon              6
    |   |-- NotFound              7
    |   `-- OutsideHours         75
    |-- RunFailed             one attempt ended badly: a kind, recorded; the campaign goes on
    `-- CannotGoOn            the daemon stops cleanly and keeps its state (exit 4 where a command meets it)
        |-- StoreUnusable         corrupt, newer than this program, or on a network file system
        `-- DiskFull

Foreign exceptions are translated at the edge that calls the library. What a person can mend, and what ends the daemon,
names a place in the documentation, `anchor`; a kind of failure is an anchor by itself.
"""

from __future__ import annotations

from typing import Literal, get_args

FaultKind = Literal[
    "oom_gpu",
    "oom_host",
    "engine_error",
    "bad_request",
    "bad_result",
    "silent",
    "timed_out",
    "infra",
    "contaminated",
    "gpu_lost",
    "invalid",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

#: Trouble of the surroundings, not of the experiment: tried again up to the campaign's limit.
RETRIED: frozenset[FaultKind] = frozenset({"infra", "contaminated", "invalid", "silent"})
#: Confirmed once by a second attempt; then the experiment's remaining cycles are skipped: they would fail alike.
SKIPS_EXPERIMENT: frozenset[FaultKind] = frozenset({"oom_gpu", "bad_request"})

#: A path and not an address: it is right in a checkout, in an installed package and on a host without a network.
TROUBLESHOOTING = "docs/troubleshooting.md"


def page(anchor: str) -> str:
    """Where the documentation says more: `docs/troubleshooting.md#silent`. Every anchor is there: a test."""
    return f"{TROUBLESHOOTING}#{anchor}"


class LemctlError(Exception):
    """Root of the tree."""

    anchor: str | None = None


class PersonsMistake(LemctlError):
    """Something that the person at the terminal can mend. `str()` is the one line to show."""

    exit_code = 2
    anchor = "exit-2"


class CampaignFileError(PersonsMistake):
    """The campaign file is wrong; says file, line and key."""

    anchor = "refused-file"

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None):
        self.message, self.file, self.line, self.key = message, file, line, key
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, key, message) if part))


class UsageMistake(PersonsMistake):
    """The call is wrong."""


class RunsFailed(PersonsMistake):
    """The campaign ended with failed runs."""

    exit_code = 3
    anchor = "exit-3"


class PreflightRefused(PersonsMistake):
    """Something that the campaign needs is missing; the message names the command that mends it."""

    exit_code = 4
    anchor = "exit-4"


class Locked(PersonsMistake):
    """Another process holds what this one needs."""

    exit_code = 5
    anchor = "exit-5"


class NoDaemon(PersonsMistake):
    """No daemon runs on this state folder."""

    exit_code = 6
    anchor = "exit-6"


class NotFound(PersonsMistake):
    """No campaign, run or experiment of that name."""

    exit_code = 7
    anchor = "exit-7"


class OutsideHours(PersonsMistake):
    """The campaign may not start runs at this hour."""

    exit_code = 75
    anchor = "exit-75"


class RunFailed(LemctlError):
    """An attempt ended badly. `kind` decides what becomes of the run; `detail` may hold a traceback or a log's tail.

    Whatever said it, no secret is kept of it.
    """

    def __init__(self, kind: FaultKind, message: str, detail: str = ""):
        from lemctl.redact import redact  # here, because every command imports this module

        self.kind: FaultKind = kind
        self.message = redact(message)
        self.detail = redact(detail)
        super().__init__(f"{kind}: {self.message}")


class Interrupted(LemctlError):
    """The attempt was ended by us (a shutdown), not by a fault of its own: the run goes back to the queue."""


class CancelledByPerson(LemctlError):
    """A person cancelled the run while it was under way."""


class CannotGoOn(LemctlError):
    """The daemon cannot do its work; it stops cleanly and its state is kept."""

    exit_code = 4


class StoreUnusable(CannotGoOn):
    """The database is corrupt, newer than this program, or on a network file system. It is left untouched."""

    anchor = "database"


class DiskFull(CannotGoOn):
    """No room to write the state."""

    anchor = "disk-full"
