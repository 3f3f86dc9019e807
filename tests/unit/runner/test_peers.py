"""Processes that make the same calls: their answers, and how long each has told nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from runner_process import wait_until

from lem_runner.peers import Loss, Peers

CEILING_S = 20.0
OBEY = "from lem_runner.peers import follow; follow(lambda call, given: [call, *given], 0.02)"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    def on_loss(loss: Loss) -> None:
        raise AssertionError(loss)

    made = Peers({name: [sys.executable, "-c", OBEY] for name in ("rank 1 of 3", "rank 2 of 3")}, on_loss)  # type: ignore[arg-type]
    yield made
    made.close()
    for process in made._processes.values():
        process.send_signal(signal.SIGCONT)  # one that is stopped does not see the end of its stdin
        process.wait(CEILING_S)


def test_signs_of_life_are_no_answers(peers: Peers) -> None:
    wait_until(lambda: max(peers.silent_s()) < 0.2, "signs of life of both", CEILING_S)
    for number in range(20):
        with peers.together("add", number) as answers:
            assert answers == []
        assert answers == [["add", number]] * 2


def test_one_that_is_stopped_is_silent_and_speaks_again(peers: Peers) -> None:
    stopped = peers._processes["rank 2 of 3"].pid
    wait_until(lambda: max(peers.silent_s()) < 0.2, "signs of life of both", CEILING_S)
    os.kill(stopped, signal.SIGSTOP)
    wait_until(lambda: peers.silent_s()[1] > 1.0 > peers.silent_s()[0], "the silence of the second alone", CEILING_S)
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: peers.silent_s()[1] < 0.5, "its next sign", CEILING_S)
