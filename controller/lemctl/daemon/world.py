"""This host, put together for the daemon: its executors, its lanes with their instruments, where models lie."""

from __future__ import annotations

import os
from typing import Any

from lemctl import __version__
from lemctl.clock import Clock
from lemctl.daemon.disk import Disk
from lemctl.daemon.experiment import World
from lemctl.daemon.gpu_choice import choose_gpus, gpus_here, refuse_too_few, used_gpus
from lemctl.daemon.gpu_instruments import GpuInstruments, is_ours
from lemctl.daemon.gpu_loss import refuse_kept_out
from lemctl.daemon.instruments import MetersFailed, NoSensors
from lemctl.daemon.lanes import Lane, OpenSession
from lemctl.daemon.memory_proof import Floors
from lemctl.engines.executor import Executor, LocalExecutor
from lemctl.engines.prepared import locate, model_config
from lemctl.engines.runner_copy import copy_runner
from lemctl.measure.environment import describe_container, describe_host, describe_project
from lemctl.measure.host import HostMeters
from lemctl.measure.readings import GpuFacts, GpuLostError, NvmlUnavailableError, Sample
from lemctl.measure.watch import SamplerFailedError, SamplerProcess
from lemctl.paths import runner_source
from lemctl.settings import Settings
from lemctl.store import samples, sessions
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Store


class Host:
    """Made once, at the daemon's start: the runner is copied then, and stays as it was."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, boot_id: str, disk: Disk):
        self._settings = settings
        self._store = store
        self._clock = clock
        self._boot_id = boot_id
        self._disk = disk
        self._runner = copy_runner(runner_source(), settings.paths.runner)
        self._executors: dict[str, Executor] = {}
        self._lane: Lane | None = None
        self._gpu_facts: list[GpuFacts] | None = None
        self._why_no_gpu: str | None = None
        self._host = describe_host(self._inventory())
        self._project = describe_project(__version__)

    def world(self) -> World:
        """What experiments need."""
        settings = self._settings
        return World(
            self._runner.hash,
            lambda spec: locate(spec, settings),
            lambda spec: model_config(spec["model"], settings),
            self._environments,
            settings.retry_back_off_scale,
            lambda executor: self._disk.lack(executor.disks()),
            lambda name: settings.models / name,
        )

    def executors_to_sweep(self) -> list[Executor]:
        """The executors that any unfinished session used; local ones always, that look costs little."""
        in_use = sessions.executors_in_use(self._store.connection) - {"simulate"}
        return [self._executor(name) for name in sorted({"local"} | in_use)]

    def lane_for(self, campaign: Campaign, spec: dict[str, Any]) -> Lane:
        """The lane with the campaign's executor and those of its devices that the experiment `spec` uses; all of them
        are locked. One lane at a time: one measured run per host.

        Raises `Locked` when another daemon owns a device, `PreflightRefused` when one is not there or kept out,
        `MetersFailed` when its meters do not start.
        """
        chosen = self._gpus(campaign)
        refuse_too_few([spec], chosen, self._why_no_gpu)
        gpus = used_gpus(spec, chosen)
        held = tuple(gpu for gpu in chosen if gpu not in gpus)
        executor = self._executor(campaign.executor)
        lane = self._lane
        if lane is not None and not lane.closed:
            if (lane.gpus, lane.held) == (gpus, held) and lane.executor is executor:
                return lane
            lane.close("another lane is due")
        self._lane = self._open_lane(gpus, held, executor)
        return self._lane

    def _open_lane(self, gpus: tuple[str, ...], held: tuple[str, ...], executor: Executor) -> Lane:
        name = "-".join(["gpu", *(uuid[-8:] for uuid in gpus)]) if gpus else "cpu"
        no_sensors = NoSensors(self._why_no_gpu or "the campaign uses no GPU", self._clock.monotonic_ns)
        lane = Lane(name, gpus, self._store, self._clock, executor, no_sensors, self._boot_id, held)
        lane.lock(self._settings.lock_dir)
        lane.host_meters = HostMeters(self._settings.country, region=self._settings.region)
        lane.host_meters.start()
        if gpus:
            try:
                lane.instruments = self._gpu_instruments(lane)
            except BaseException:
                lane.close("its meters did not start")
                raise
        return lane

    def _gpus(self, campaign: Campaign) -> tuple[str, ...]:
        """UUIDs of the GPUs for a campaign, none of them kept out."""
        wanted: list[int | str] | None = campaign.document["gpus"]
        if wanted == []:
            return ()
        chosen = choose_gpus(wanted, self._inventory(), self._why_no_gpu)
        refuse_kept_out(self._store, campaign, chosen)
        return chosen

    def _inventory(self) -> list[GpuFacts]:
        """Asked once: a host's GPUs do not change under a running daemon, and asking takes a process."""
        if self._gpu_facts is None:
            self._gpu_facts, self._why_no_gpu = gpus_here()
        return self._gpu_facts

    def _gpu_instruments(self, lane: Lane) -> GpuInstruments:
        watched = tuple(facts.uuid for facts in self._inventory() if facts.uuid not in lane.gpus)
        with self._store.transaction() as tx:
            devices = {f.uuid: samples.know_device(tx, f.uuid, f.to_json()) for f in self._inventory()}

        def keep(rows: list[Sample]) -> None:
            self._store.with_room(samples.add_samples, self._store, devices, self._boot_id, rows)

        def owns(pid: int) -> bool:
            return is_ours(pid, os.getpid(), lane.open.container_id if lane.open else None)

        sampler = SamplerProcess(lane.gpus, watched=watched, sink=keep, owns=owns)
        try:
            sampler.start()
        except (NvmlUnavailableError, GpuLostError) as error:  # the inventory has them: they were there
            raise MetersFailed("gpu_lost", str(error), lane.gpus) from error
        except SamplerFailedError as error:
            raise MetersFailed("infra", f"the GPU sampler does not start: {error}", lane.gpus) from error
        return GpuInstruments(sampler, lane.gpus, watched, self._clock, memory_floors=self._memory_floors(lane.gpus))

    def _memory_floors(self, gpus: tuple[str, ...]) -> Floors:
        """As learnt since the host came up under these drivers, by this daemon or those before it."""
        since = {f.uuid: f"boot {self._boot_id}, driver {f.driver}" for f in self._inventory()}
        known = {gpu: samples.memory_floor_b(self._store.connection, gpu, since[gpu]) for gpu in gpus}

        def keep(gpu: str, used_b: int) -> None:
            self._store.with_room(write, gpu, used_b)

        def write(gpu: str, used_b: int) -> None:
            with self._store.transaction() as tx:
                samples.keep_memory_floor(tx, gpu, since[gpu], used_b)

        return Floors({gpu: used_b for gpu, used_b in known.items() if used_b is not None}, keep)

    def _executor(self, name: str) -> Executor:
        if name not in self._executors:
            if name == "docker":
                from lemctl.engines.docker import DockerExecutor

                self._executors[name] = DockerExecutor(self._settings, self._runner)
            else:
                self._executors[name] = LocalExecutor(self._settings.paths, self._runner)
        return self._executors[name]

    def _environments(self, opened: OpenSession) -> list[tuple[str, str, str]]:
        """What surrounds an attempt: (kind, hash, document) of host, container and project."""
        parts, hello = opened.need.parts, opened.hello
        container = describe_container(
            image=parts.get("image"),
            digest=parts.get("image_id"),
            python=hello.get("python"),
            packages=hello.get("packages", {}),
            executor=parts["executor"],
        )
        return [(e.kind, e.hash, e.document) for e in (self._host, container, self._project)]
