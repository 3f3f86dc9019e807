"""The states of campaigns, runs and attempts: tagged unions whose variants carry exactly the data that state can have,
and the one table of allowed moves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lemctl.errors import FaultKind


class _Status(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Queued(_Status):
    """Waits for its turn. `not_before_*` hold a retry back (a `clock.Deadline`); `why` says why it is here again."""

    kind: Literal["Queued"] = "Queued"
    not_before_utc: str | None = None
    not_before_boottime_ns: int | None = None
    not_before_boot: str | None = None
    why: str | None = None


class Starting(_Status):
    """An attempt has begun: the engine is being opened or loaded."""

    kind: Literal["Starting"] = "Starting"
    attempt: int
    lane: str


class Cooling(_Status):
    """The engine is loaded; the gate waits."""

    kind: Literal["Cooling"] = "Cooling"
    attempt: int
    lane: str


class Running(_Status):
    """Warm-up and windows."""

    kind: Literal["Running"] = "Running"
    attempt: int
    lane: str


class Done(_Status):
    """A result stands."""

    kind: Literal["Done"] = "Done"
    attempt: int
    verdict: Literal["VALID", "SUSPECT"]


class Failed(_Status):
    """No result, and no further try."""

    kind: Literal["Failed"] = "Failed"
    attempt: int
    fault: FaultKind
    message: str


Because = Literal["failure", "precise", "person"]


class Skipped(_Status):
    """Not tried: it would fail like its sibling, its experiment is precise enough, or a person said so."""

    kind: Literal["Skipped"] = "Skipped"
    reason: str
    because: Because


class Cancelled(_Status):
    """A person cancelled the campaign or the run."""

    kind: Literal["Cancelled"] = "Cancelled"
    reason: str


RunStatus = Annotated[
    Queued | Starting | Cooling | Running | Done | Failed | Skipped | Cancelled, Field(discriminator="kind")
]


class CampaignWaiting(_Status):
    """In line behind another campaign."""

    kind: Literal["Waiting"] = "Waiting"


class CampaignActive(_Status):
    """Its runs are being started."""

    kind: Literal["Active"] = "Active"


class CampaignPaused(_Status):
    """Starts nothing new until resumed, or until its deadline: `until_utc` alone where a person named an hour, a whole
    `clock.Deadline` where a length of time. `fault` is what its breaker met: the first run afterwards is a probe."""

    kind: Literal["Paused"] = "Paused"
    reason: str
    until_utc: str | None = None
    until_boottime_ns: int | None = None
    until_boot: str | None = None
    fault: FaultKind | None = None


class CampaignStopped(_Status):
    """Ended after the run that was under way; can be resumed."""

    kind: Literal["Stopped"] = "Stopped"


class CampaignFinished(_Status):
    """Every run has ended."""

    kind: Literal["Finished"] = "Finished"


class CampaignCancelled(_Status):
    """Cancelled by a person; what had not ended never will."""

    kind: Literal["Cancelled"] = "Cancelled"
    reason: str


CampaignStatus = Annotated[
    CampaignWaiting | CampaignActive | CampaignPaused | CampaignStopped | CampaignFinished | CampaignCancelled,
    Field(discriminator="kind"),
]

#: (entity, from) -> the states it may move to. Nothing else is ever written.
MOVES: dict[str, dict[str, frozenset[str]]] = {
    "run": {
        "Queued": frozenset({"Starting", "Skipped", "Cancelled"}),
        "Starting": frozenset({"Cooling", "Queued", "Failed", "Cancelled"}),
        "Cooling": frozenset({"Running", "Queued", "Failed", "Cancelled"}),
        "Running": frozenset({"Done", "Queued", "Failed", "Cancelled"}),
        "Done": frozenset(),
        "Failed": frozenset({"Queued"}),
        "Skipped": frozenset({"Queued"}),
        "Cancelled": frozenset({"Queued"}),
    },
    "campaign": {
        "Waiting": frozenset({"Active", "Paused", "Stopped", "Cancelled"}),
        "Active": frozenset({"Waiting", "Paused", "Stopped", "Finished", "Cancelled"}),
        "Paused": frozenset({"Waiting", "Stopped", "Finished", "Cancelled"}),
        "Stopped": frozenset({"Waiting", "Cancelled"}),
        "Finished": frozenset({"Waiting"}),
        "Cancelled": frozenset({"Waiting"}),
    },
}

RUN_ACTIVE = frozenset({"Starting", "Cooling", "Running"})
RUN_ENDED = frozenset({"Done", "Failed", "Skipped", "Cancelled"})
CAMPAIGN_OPEN = frozenset({"Waiting", "Active", "Paused", "Stopped"})

Outcome = Literal["ok", "failed", "interrupted", "cancelled"]

_RUN: TypeAdapter[RunStatus] = TypeAdapter(RunStatus)
_CAMPAIGN: TypeAdapter[CampaignStatus] = TypeAdapter(CampaignStatus)


def run_status(data: str) -> RunStatus:
    """The status stored as JSON."""
    return _RUN.validate_json(data)


def campaign_status(data: str) -> CampaignStatus:
    """The status stored as JSON."""
    return _CAMPAIGN.validate_json(data)


def dump(status: Any) -> str:
    """JSON without absent fields."""
    text: str = status.model_dump_json(exclude_none=True)
    return text
