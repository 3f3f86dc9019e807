"""`lemctl daemon run|start|stop|status`: the process that carries campaigns out, one per state folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from lemctl.cli.long_work import long_work
from lemctl.cli.options import Json, new_app
from lemctl.cli.state import daemon_pid, home
from lemctl.cli.terminal import out, out_json, say
from lemctl.errors import Locked

if TYPE_CHECKING:
    from lemctl.paths import Home
    from lemctl.report.status import DaemonState

app = new_app("Start, stop and look at the daemon.")

STOP_TIMEOUT_S = 60.0
POLL_S = 0.05


@app.command("run")
def run() -> int:
    """Be the daemon, in the foreground; for service managers."""
    from lemctl.daemon.process import run as run_daemon
    from lemctl.settings import load_settings

    return run_daemon(load_settings())


@app.command("start")
def start() -> None:
    """Start the daemon in the background, unless one runs."""
    at = home()
    if (pid := daemon_pid(at)) is not None:
        say(f"a daemon runs already, pid {pid}")
        return
    from lemctl.daemon.process import spawn
    from lemctl.settings import load_settings

    say(f"daemon started, pid {spawn(load_settings())}")


@app.command("stop")
def stop(
    timeout: Annotated[float, typer.Option(help="Seconds to wait for its end.")] = STOP_TIMEOUT_S,
) -> None:
    """End the daemon.

    The run under way goes back to the queue, without a penalty.
    """
    import os
    import signal

    at = home()
    pid = daemon_pid(at)
    if pid is None:
        say("no daemon runs")
        return
    if pid:
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + timeout
    with long_work(f"waiting for the end of the daemon, pid {pid}"):
        while daemon_pid(at) is not None:
            if time.monotonic() > until:
                why = f"the daemon (pid {pid}) has not ended within {timeout:g} s; `kill -9 {pid}` loses nothing"
                raise Locked(why)
            time.sleep(POLL_S)
    say("daemon ended")


@app.command("install")
def install(
    user: Annotated[bool, typer.Option("--user", help="For your own systemd, without root.")] = False,
    name: Annotated[str, typer.Option(help="Name of the unit; one for each state folder.")] = "lemctl",
    print_only: Annotated[bool, typer.Option("--print", help="Show the unit and write nothing.")] = False,
) -> None:
    """Write a systemd unit that keeps the daemon alive, with watchdog and restart limits.

    Settings of this shell (LEM_* but no addresses, PATH) go with it. Says what to type next.
    """
    from lemctl.cli.install import install_unit

    install_unit(is_users=user, name=name, print_only=print_only)


@app.command("status")
def status(json: Json = False) -> int:
    """Whether it runs, and whether its heart beats. Exit code 6 when it does not run."""
    at = home()
    state = daemon_state(at)
    if json:
        out_json("daemon", health=state.health, pid=state.pid, heartbeat_age_s=state.heartbeat_age_s, home=str(at.root))
    elif state.pid is None:
        out(f"not running on {at.root}")
    else:
        age = "" if state.heartbeat_age_s is None else f", heartbeat {state.heartbeat_age_s:.1f} s ago"
        out(f"{state.health}, pid {state.pid}{age}, state folder {at.root}")
    return 6 if state.pid is None else 0


def daemon_state(at: Home) -> DaemonState:
    """From the lock and the heartbeat in the database; works while the daemon hangs."""
    from lemctl.cli.describe import seconds_since
    from lemctl.report.status import DaemonState
    from lemctl.store.database import Store
    from lemctl.store.read_status import live

    pid = daemon_pid(at)
    if pid is None or not at.database.exists():
        return DaemonState(pid, None, None)
    with Store.open(at, "read") as store:
        said = live(store.connection).get("daemon", {})
    return DaemonState(pid, seconds_since(said.get("heartbeat_utc"), time.time()), said.get("waits_for"))
