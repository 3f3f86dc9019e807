"""Notifications: what waits in the outbox is sent by a process that may hang and be killed. Nobody waits for it.

A message goes out at least once: a daemon that dies between the sending and the note of it sends again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Protocol

from lemctl.clock import Clock
from lemctl.daemon.sender import Message, Sent
from lemctl.lines import plural
from lemctl.paths import Home
from lemctl.store import outbox
from lemctl.store.database import Store
from lemctl.store.outbox import Letter

#: The outbox is looked at so often.
LOOK_S = 1.0
#: One sending, all addresses together.
SEND_TIMEOUT_S = 60.0
#: Waits before the next try; after the last one a message is given up, a day and a half after it was written.
BACK_OFF_S = (30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 18 * 3600.0)
#: To the same addresses: one sending in this time, and so many in an hour. What waits meanwhile goes out together.
GAP = timedelta(seconds=60)
PER_HOUR = 10
#: More messages than this are told by their number.
MOST_TOGETHER = 20


class Sending(Protocol):
    """A sending under way."""

    def poll(self) -> Sent | None:
        """What came of it; None while it is under way."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


Send = Callable[[Message], Sending]


class SenderProcess:
    """A `Sending`: a child, in a session of its own so that it can be killed with whatever it started."""

    def __init__(self, message: Message, home: Home):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lemctl.daemon.sender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "LEM_HOME": str(home.root)},
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(json.dumps(asdict(message)).encode())

    def poll(self) -> Sent | None:
        """What it printed, once it has ended."""
        if self._process.poll() is None:
            return None
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            said = pipe.read()
        try:
            answer = json.loads(said)
            return Sent(tuple(answer["delivered"]), answer["error"])
        except (ValueError, KeyError, TypeError):
            return Sent((), f"the sender ended with exit code {self._process.returncode}")

    def kill(self) -> None:
        """SIGKILL to it and its children."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclass
class Post:
    """A sending with what it carries and when it began; `sent` is its answer, kept until that is noted."""

    sending: Sending
    letters: Sequence[Letter]
    began_ns: int
    sent: Sent | None = None


class Postman:
    """Carries the outbox out, one sending at a time. `tick` never waits."""

    def __init__(self, store: Store, clock: Clock, send: Send | None = None):
        self._store = store
        self._clock = clock
        self._send: Send = send or (lambda message: SenderProcess(message, store.home))
        self._post: Post | None = None
        self._looked_ns: int | None = None

    def tick(self) -> None:
        """Take back what has ended, begin with what is due."""
        now_ns = self._clock.monotonic_ns()
        if self._post is not None:
            self._collect(self._post, now_ns)
        elif self._looked_ns is None or now_ns - self._looked_ns >= LOOK_S * 1e9:
            self._looked_ns = now_ns
            self._begin(now_ns)

    def close(self) -> None:
        """Nothing is waited for: what was not noted as sent goes out again."""
        if self._post is not None:
            self._post.sending.kill()
            self._post = None

    def _begin(self, now_ns: int) -> None:
        letters = outbox.due(self._store.connection, self._clock)
        refused: set[str] = set()
        for first in letters:
            if first.urls_from in refused:
                continue
            if not self._may_send(first.urls_from):
                refused.add(first.urls_from)
                continue
            together = [x for x in letters if (x.urls_from, x.delivered) == (first.urls_from, first.delivered)]
            self._begin_with(together, now_ns)
            return

    def _begin_with(self, letters: Sequence[Letter], now_ns: int) -> None:
        try:
            self._post = Post(self._send(message_of(letters)), letters, now_ns)
        except OSError as error:
            self._note(letters, Sent(letters[0].delivered, f"no process for the sending: {error.strerror}"))

    def _may_send(self, urls_from: str) -> bool:
        now = self._clock.utc()
        return is_time_to_send(outbox.sent_since(self._store.connection, urls_from, now - timedelta(hours=1)), now)

    def _collect(self, post: Post, now_ns: int) -> None:
        sent = post.sent or post.sending.poll()
        if sent is None:
            if now_ns - post.began_ns < SEND_TIMEOUT_S * 1e9:
                return
            post.sending.kill()
            sent = Sent(post.letters[0].delivered, f"nothing heard for {SEND_TIMEOUT_S:.0f} s")
        post.sent = sent  # a full disk keeps it from being noted, and must not have it sent again
        self._note(post.letters, sent)
        self._post = None

    def _note(self, letters: Sequence[Letter], sent: Sent) -> None:
        with self._store.transaction() as tx:
            if sent.error is None:
                outbox.mark_sent(tx, letters, self._clock)
                return
            for letter in letters:
                outbox.mark_failed(tx, [letter], sent.delivered, sent.error, retry_after_s(letter.tries), self._clock)


def retry_after_s(tries_before: int) -> float | None:
    """The wait after another failed try, None when it was the last. Pure."""
    return BACK_OFF_S[tries_before] if tries_before < len(BACK_OFF_S) else None


def is_time_to_send(sent: Sequence[datetime], now: datetime) -> bool:
    """Whether the addresses may get another message, given when they got those of the last hour. Pure.

    A sending that seems to lie in the future (the clock was set back) holds nothing up.
    """
    past = [moment for moment in sent if moment <= now]
    return len(past) < PER_HOUR and all(now - moment >= GAP for moment in past[-1:])


def message_of(letters: Sequence[Letter]) -> Message:
    """One message for several that are due together. Pure."""
    first = letters[0]
    if len(letters) == 1:
        return Message(first.urls_from, first.title, first.body, first.delivered)
    shown = [f"{letter.title}\n{letter.body}" for letter in letters[-MOST_TOGETHER:]]
    hidden = len(letters) - len(shown)
    body = "\n\n".join([f"({plural(hidden, 'older message')} left out)"] * bool(hidden) + shown)
    return Message(first.urls_from, f"{plural(len(letters), 'message')} of lemctl", body, first.delivered)
