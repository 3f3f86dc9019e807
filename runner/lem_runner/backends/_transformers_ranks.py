"""Tensor and pipeline parallel: one process a GPU. The first rank is the runner itself, the others follow its calls.

As `torchrun` would start them, with its variables; the ranks meet by a file, so that no port is needed. On a CPU the
collectives are gloo's.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lem_runner.peers import OnLoss, Peers, follow
from lem_runner.prompts import Prompt
from lem_runner.protocol import RunSpec
from lem_runner.scratch import scratch_folder


class Ranks:
    """The first rank's hold on all others; with a single rank there is nothing to hold."""

    def __init__(self, world: int, on_loss: OnLoss) -> None:
        self.world = world
        self._peers: Peers | None = None
        if world > 1:
            self._folder = scratch_folder("ranks")
            meeting = str(self._folder / "meeting")
            module = ["-m", "lem_runner.backends._transformers_ranks"]
            commands = {
                f"rank {rank} of {world}": [sys.executable, *module, str(rank), str(world), meeting]
                for rank in range(1, world)
            }
            self._peers = Peers(commands, on_loss)
            prepare(0, world, meeting)

    @contextmanager
    def together(self, call: str, *arguments: Any) -> Iterator[list[Any]]:
        """The other ranks make this call meanwhile; what they answer is in the list afterwards."""
        if self._peers is None:
            yield []
            return
        with self._peers.together(call, *arguments) as answers:
            yield answers

    def silent_s(self) -> list[float]:
        """Seconds since each of the others told anything."""
        return [] if self._peers is None else self._peers.silent_s()

    def close(self) -> None:
        """End the others."""
        if self._peers is not None:
            self._peers.close()
            shutil.rmtree(self._folder, ignore_errors=True)


def prepare(rank: int, world: int, meeting: str) -> None:
    """What torchrun sets, before torch is imported; `join` reads it."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        LEM_RANKS_MEET=f"file://{meeting}",
    )
    # One host: the loopback is there even where a container has no network.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")


def join(device: str) -> None:
    """Wait for the other ranks of `prepare`; does nothing where there are none."""
    meeting = os.environ.get("LEM_RANKS_MEET")
    if meeting is None:
        return
    import torch
    import torch.distributed as dist

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        torch.cuda.set_device(rank)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world)


def whole(facts: Mapping[str, Any], others: Sequence[Mapping[str, Any]], tensor_parallel: int) -> dict[str, Any]:
    """Facts of the model from those of its ranks, the first one's first.

    A shard counts as its whole already; the stages of a pipeline add up, so of each one rank is taken.
    """
    stages = [facts, *others][::tensor_parallel]
    weights_b: Counter[str] = Counter()
    for stage in stages:
        weights_b.update(stage["weights_b_by_dtype"])
    return {
        **facts,
        "weights_b_by_dtype": dict(weights_b),
        "weights_b": sum(weights_b.values()),
        "parameters": sum(stage["parameters"] for stage in stages),
        "devices": sorted({device for one in (facts, *others) for device in one["devices"]}),
        "ranks": 1 + len(others),
    }


def _obey_with(engine: Any) -> Any:
    """Calls by name, their arguments as JSON."""
    from lem_runner.backends import Decoding

    def obey(call: str, arguments: list[Any]) -> Any:
        if call == "load":
            engine.load(RunSpec.from_json(arguments[0]))
            return engine.effective()
        if call == "memory":
            return engine.memory()
        prompts = [Prompt(index, None, ids, "") for index, ids in enumerate(arguments[0])]
        decoding = Decoding(**arguments[1])
        if call == "admit":
            engine.admit(prompts, decoding)
        else:
            engine.generate(prompts, decoding, arguments[2])
        return None

    return obey


if __name__ == "__main__":
    prepare(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    from lem_runner.backends.pytorch import TransformersEngine

    follow(_obey_with(TransformersEngine(is_first=False)))
