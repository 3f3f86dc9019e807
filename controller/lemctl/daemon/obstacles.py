"""What keeps the next run from starting now: room, the lane's devices and engine, its meters, others on the GPU.

Nothing here waits. Meters that end while no run is under way are given new ones ever more rarely, and a GPU that is
lost then is kept out as one that is lost in a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lemctl.clock import Clock, Deadline
from lemctl.daemon.disk import Disk
from lemctl.daemon.gpu_loss import lose_gpus
from lemctl.daemon.instruments import MetersFailed
from lemctl.daemon.lanes import Lane
from lemctl.errors import Locked, PersonsMistake, RunFailed
from lemctl.store import campaigns, outbox
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Store

#: Opens the lane that a campaign needs. Raises `LemctlError` where it cannot be had.
LaneFor = Callable[[Campaign, dict[str, Any]], Lane]

#: Between two tries to give a lane meters: the first wait, doubled at each failure up to the longest.
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 60.0

_log = logging.getLogger(__name__)


class Obstacles:
    """Remembers what people were told, and when meters may be tried again."""

    def __init__(self, store: Store, clock: Clock, disk: Disk, memory_lack: Callable[[], str | None]):
        self._store, self._clock, self._disk, self._memory_lack = store, clock, disk, memory_lack
        #: The disks beside the state folder's that a campaign waits for; its people know that a disk is full.
        self._awaited_disks: dict[int, Sequence[Path]] = {}
        self._meters_wait_s = 0.0
        self._meters_again: Deadline | None = None
        self._why_no_meters = ""

    def find(
        self, campaign: Campaign, spec: dict[str, Any], lane: Lane | None, lane_for: LaneFor
    ) -> tuple[Lane | None, str | None]:
        """The lane of the run that is next, as far as it could be had, and in words why the run cannot begin on it;
        None when it can. `lane` is the one that is open.

        A wait asks several times a second, and a container engine is asked by processes of its own: so it is asked
        when nothing else is in the way, and its answer is of the moment in which the run begins.
        """
        try:
            awaited = self._awaited_disks.get(campaign.id, ())
            if (lack := self._disk.lack(awaited)) is not None:
                return lane, self._tell_of_disk(campaign, lack, awaited)
            if (lack := self._memory_lack()) is not None:
                return lane, lack
            if self._meters_again is not None and self._meters_again.left_s(self._clock) > 0:
                return lane, self._why_no_meters
            lane = lane_for(campaign, spec)
            if (obstacle := lane.instruments.obstacle() or lane.executor.obstacle()) is not None:
                return lane, obstacle
            disks = lane.executor.disks()
            if (lack := self._disk.lack(disks)) is not None:
                return lane, self._tell_of_disk(campaign, lack, disks)
            self._awaited_disks.clear()
            return lane, None
        except Locked as locked:
            return lane, f"the device of {campaign.label}: {locked}"
        except MetersFailed as failed:
            if lane is not None:
                lane.close(f"{failed.kind}: {failed.message}")
            return None, self._without_meters(campaign, failed)
        except (PersonsMistake, RunFailed) as refused:
            return lane, f"{campaign.label}: {refused}"

    def hurry(self) -> None:
        """A person says that all is well: meters are tried at the next look."""
        self._meters_again = None

    def _without_meters(self, campaign: Campaign, failed: MetersFailed) -> str:
        if failed.kind == "gpu_lost":
            with self._store.transaction() as tx:
                lose_gpus(tx, campaign, failed.gpus, failed.message, self._clock)
            return f"{campaign.label}: {failed}"
        is_row = self._meters_again is not None and self._meters_again.left_s(self._clock) > -LONGEST_WAIT_S
        self._meters_wait_s = min(2 * self._meters_wait_s, LONGEST_WAIT_S) if is_row else FIRST_WAIT_S
        self._meters_again = Deadline.after(self._meters_wait_s, self._clock)
        self._why_no_meters = f"{campaign.label}: {failed}; tried again at {self._meters_again.at_utc[11:19]}Z"
        _log.warning("no run can start: %s", self._why_no_meters)
        return self._why_no_meters

    def _tell_of_disk(self, campaign: Campaign, lack: str, disks: Sequence[Path]) -> str:
        if campaign.id not in self._awaited_disks:
            with self._store.transaction() as tx:
                so_far = campaigns.describe(tx, campaign, self._clock)
                body = f"{lack}; it goes on by itself when there is room; {so_far}"
                outbox.tell(tx, campaign, "disk_low", body, self._clock)
        self._awaited_disks[campaign.id] = disks
        return lack
