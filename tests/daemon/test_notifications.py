"""People are told: once the event stands in the database, at most so often, again when it fails, and never at the cost
of a run or of a secret."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lemctl.clock import SimulatedClock
from lemctl.daemon import notify
from lemctl.daemon.digest import Digest, due_since
from lemctl.daemon.notify import Postman, is_time_to_send, message_of, retry_after_s
from lemctl.daemon.sender import Message, Sent, send
from lemctl.paths import Home
from lemctl.store import campaigns, outbox
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Store
from lemctl.store.outbox import Letter
from letterbox import SECRET, Letterbox, letterbox
from night import Night, campaign_text

NOTIFY = "notify: {urls_from: LEM_NOTIFY_T, on: [finished, breaker, digest]}\n"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def box() -> Iterator[Letterbox]:
    with letterbox() as made:
        yield made


def put_addresses(night: Night, *addresses: str) -> Path:
    night.home.create()
    path = night.home.notify / "LEM_NOTIFY_T"
    path.write_text("# those on call\n" + "\n".join(addresses) + "\n")
    path.chmod(0o600)
    return path


def nothing_told(folder: Path) -> None:
    """The secret of the addresses stands in no file but the one a person put it into."""
    found = [
        p for p in folder.rglob("*") if p.is_file() and p.parent.name != "notify" and SECRET.encode() in p.read_bytes()
    ]
    assert found == []


def test_a_finished_campaign_is_told_and_the_address_is_kept_nowhere(night: Night, box: Letterbox) -> None:
    put_addresses(night, box.address)
    night.add(campaign_text(cycles=2, more=NOTIFY))
    night.begin()
    night.wait_for(lambda: bool(night.rows("SELECT 1 FROM outbox WHERE sent_utc IS NOT NULL")), "the message's end", 60)
    night.end()
    night.audit()
    (letter,) = box.letters
    assert letter["title"].endswith("] night has finished")
    assert letter["message"].startswith("2 of 2 runs done; begun ")
    nothing_told(night.home.root)


def test_a_tripped_breaker_is_told_with_its_reason(night: Night, box: Letterbox) -> None:
    put_addresses(night, box.address)
    night.add(
        campaign_text(cycles=6, engine="fault: error", more=NOTIFY + "retry: {max: 0}\nbreaker: {consecutive: 2}\n")
    )
    night.begin()
    night.wait_for(lambda: len(box.letters) == 1, "the message", 60)
    night.end()
    assert box.letters[0]["title"].endswith("night is paused after failures")
    assert "2 runs in a row failed with engine_error" in box.letters[0]["message"]
    assert "`lemctl campaign resume night`" in box.letters[0]["message"]
    night.audit()


def test_an_address_that_hangs_holds_up_no_run_and_no_end_of_the_daemon(night: Night, box: Letterbox) -> None:
    box.hangs = True
    put_addresses(night, box.address)
    night.add(campaign_text("first", more=NOTIFY))
    night.begin()
    night.wait_for(lambda: box.tries == 1, "the try", 60)
    night.add(campaign_text("second"))
    night.wait_campaign(name="second")
    began = time.monotonic()
    night.end()
    assert time.monotonic() - began < 10
    assert night.rows("SELECT sent_utc, tries FROM outbox") == [(None, 0)]
    box.hangs = False
    night.begin()
    night.wait_for(lambda: bool(night.rows("SELECT 1 FROM outbox WHERE sent_utc IS NOT NULL")), "a second try", 60)
    night.end()
    night.audit()


def test_the_sender_says_which_address_refused_and_never_the_address(
    tmp_path: Path, box: Letterbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    monkeypatch.setenv("LEM_NOTIFY_T", f"{box.address} json://user:{SECRET}@127.0.0.1:9/ nonsense:{SECRET}")
    sent = send(Message("LEM_NOTIFY_T", "title", "body"), home)
    assert sent.delivered == (0,)
    assert sent.error is not None
    assert "address 2 of 3" in sent.error
    assert "address 3 of 3: not an address that is understood" in sent.error
    assert SECRET not in sent.error
    assert send(Message("LEM_NOTIFY_T", "title", "body", skip=(0,)), home).delivered == (0,)
    assert len(box.letters) == 1, "an address that has it gets it twice"


@dataclass
class Scripted:
    """A `Sending` with its end told beforehand; None hangs."""

    sent: Sent | None
    killed: bool = False

    def poll(self) -> Sent | None:
        return self.sent

    def kill(self) -> None:
        self.killed = True


@dataclass
class Round:
    """A postman on a real outbox, with sendings that a test scripts."""

    home: Home
    clock: SimulatedClock
    script: list[Sent | None] = field(default_factory=list)
    sendings: list[Scripted] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store.open(self.home, "write")
        self.postman = Postman(self.store, self.clock, self._send)

    def _send(self, message: Message) -> Scripted:
        self.messages.append(message)
        self.sendings.append(Scripted(self.script.pop(0)))
        return self.sendings[-1]

    def pass_time(self, seconds: float, step_s: float = 1.0) -> None:
        for _ in range(round(seconds / step_s)):
            self.postman.tick()
            self.clock.advance(step_s)

    def tell(self, body: str, key: str | None = None) -> bool:
        with self.store.transaction() as tx:
            return outbox.tell(tx, self.campaign(), "finished", body, self.clock, key)

    def campaign(self) -> Campaign:
        return campaigns.find(self.store.connection, "night")

    def rows(self, columns: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self.store.connection.execute(f"SELECT {columns} FROM outbox ORDER BY id")]


@pytest.fixture
def post(night: Night) -> Iterator[Round]:
    night.add(campaign_text(more=NOTIFY))
    made = Round(night.home, SimulatedClock(NOON))
    yield made
    made.store.close()


def test_what_fails_is_tried_again_ever_more_rarely_and_given_up_in_the_end(post: Round) -> None:
    post.script = [Sent((), "refused")] * 8
    post.tell("news")
    post.pass_time(2 * 86400, step_s=5)
    assert len(post.messages) == 8
    ((tries, error, given_up),) = post.rows("tries, error, given_up_utc IS NOT NULL")
    assert (tries, error, given_up) == (8, "refused", 1)
    assert outbox.troubles(post.store.connection) == [
        "'night has finished' was not delivered to LEM_NOTIFY_T (refused; given up after 8 tries)"
    ]


def test_a_sending_that_hangs_is_killed_and_tried_again(post: Round) -> None:
    post.script = [None, Sent((0,), None)]
    post.tell("news")
    post.pass_time(notify.SEND_TIMEOUT_S + 5)
    assert post.sendings[0].killed
    assert post.rows("tries, error") == [(1, "nothing heard for 60 s")]
    post.pass_time(40)
    assert post.rows("tries, error, sent_utc IS NOT NULL") == [(2, None, 1)]


def test_only_the_address_that_refused_is_tried_again(post: Round) -> None:
    post.script = [Sent((0, 2), "address 2 of 3: refused"), Sent((0, 1, 2), None)]
    post.tell("news")
    post.pass_time(60)
    assert [message.skip for message in post.messages] == [(), (0, 2)]


def test_many_messages_go_out_together_and_not_more_often_than_allowed(post: Round) -> None:
    post.script = [Sent((0,), None)] * 100
    for number in range(240):
        post.tell(f"news {number}")
        post.pass_time(15)
    assert len(post.messages) <= notify.PER_HOUR + 1
    assert post.messages[1].title == "4 messages of lemctl"
    post.pass_time(3700, step_s=5)
    assert post.rows("count(*)") == post.rows("sum(sent_utc IS NOT NULL)") == [(240,)]


def test_a_sender_that_cannot_be_started_is_a_failed_try(post: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(message: Message) -> Scripted:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(post.postman, "_send", no_memory)
    post.tell("news")
    post.pass_time(2)
    assert post.rows("tries, error") == [(1, "no process for the sending: Cannot allocate memory")]


def test_a_message_stands_exactly_when_its_event_does(post: Round) -> None:
    def tell_and_fail() -> None:
        with post.store.transaction() as tx:
            outbox.tell(tx, post.campaign(), "finished", "news", post.clock)
            raise RuntimeError("the event did not come to be")

    with pytest.raises(RuntimeError):
        tell_and_fail()
    assert post.rows("1") == []
    with post.store.transaction() as tx:
        assert not outbox.tell(tx, post.campaign(), "gpu_lost", "not asked for", post.clock)
    assert post.tell("once", key="k")
    assert not post.tell("once", key="k")


def test_the_digest_comes_once_a_day_and_not_for_what_began_since(post: Round) -> None:
    clock = SimulatedClock(datetime.now(UTC))  # the campaign was made just now
    digest = Digest(post.store, clock)
    digest.tick()
    assert post.rows("1") == []
    for _ in range(2 * 24 * 4):
        clock.advance(900)
        digest.tick()
        Digest(post.store, clock).tick()  # a daemon started anew
    assert [event for (event,) in post.rows("event")] == ["digest", "digest"]
    assert "0 of 1 run done, 1 left" in str(post.rows("body")[0][0])


def test_when_a_digest_is_due() -> None:
    zone = datetime(2026, 3, 2, 7, 59, tzinfo=UTC)
    assert due_since(zone, hour=8) is None
    assert due_since(zone + timedelta(minutes=1), hour=8) == zone + timedelta(minutes=1)
    assert due_since(zone + timedelta(hours=10), hour=8) == zone + timedelta(minutes=1)


def test_the_waits_between_tries_and_between_messages() -> None:
    waits = [retry_after_s(tries) for tries in range(8)]
    assert waits[-1] is None
    known = [wait for wait in waits if wait is not None]
    assert known == sorted(known)
    assert is_time_to_send([], NOON)
    assert not is_time_to_send([NOON - timedelta(seconds=59)], NOON)
    assert is_time_to_send([NOON - timedelta(seconds=60)], NOON)
    assert not is_time_to_send([NOON - timedelta(minutes=n) for n in range(30, 20, -1)], NOON)
    assert is_time_to_send([NOON + timedelta(hours=1)], NOON), "a clock set back would hold messages up"


def test_a_flood_is_told_by_its_number() -> None:
    letters = [Letter(n, "LEM_NOTIFY", f"title {n}", "body", 0, ()) for n in range(25)]
    message = message_of(letters)
    assert message.title == "25 messages of lemctl"
    assert message.body.startswith("(5 older messages left out)\n\ntitle 5\nbody")
    assert message_of(letters[:1]).title == "title 0"


def test_the_daemon_does_not_import_the_library() -> None:
    program = "import lemctl.daemon.notify, lemctl.daemon.serve, sys; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
