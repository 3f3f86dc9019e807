"""The systemd unit of the daemon: notified readiness, a watchdog, restarts with a limit. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: First line of a unit that lemctl wrote, and may write again.
MARK = "# Written by `lemctl daemon install`; write it anew with that."
#: A tick that takes longer hangs: the slowest, ending a container of an engine that does not answer, takes half.
WATCHDOG_S = 300
#: Recovery ends leftover containers, and looks at every page that states stand on.
START_TIMEOUT_S = 600
STOP_TIMEOUT_S = 300
RESTART_AFTER_S = 10
#: More restarts than this in so long, and it is given up: something is broken that a restart does not mend.
RESTARTS = 5
RESTARTS_IN_S = 900
#: From -1000 (never killed for memory) to 1000 (first). A user's own systemd may not lower it, and goes on without.
OOM_SCORE_ADJUST = -500
#: Another daemon holds the state folder, or the settings are wrong: nothing that a restart would mend.
FINAL_EXIT_CODES = (2, 5)


@dataclass(frozen=True)
class Unit:
    """What the unit is made of. `variables` are stored in it and readable by all: no secret may be among them."""

    interpreter: str
    home: Path
    variables: Mapping[str, str]
    is_users: bool

    def text(self) -> str:
        """The file."""
        after = "" if self.is_users else "After=network.target docker.service nvidia-persistenced.service\n"
        environment = {"LEM_HOME": str(self.home), **self.variables}
        lines = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in sorted(environment.items()))
        return f"""{MARK}
[Unit]
Description=lemctl daemon on {_escaped(str(self.home))}
{after}StartLimitIntervalSec={RESTARTS_IN_S}
StartLimitBurst={RESTARTS}

[Service]
Type=notify
NotifyAccess=main
ExecStart={_quoted(self.interpreter)} -m lemctl.daemon.process
{lines}WorkingDirectory=/
WatchdogSec={WATCHDOG_S}
TimeoutStartSec={START_TIMEOUT_S}
TimeoutStopSec={STOP_TIMEOUT_S}
Restart=on-failure
RestartSec={RESTART_AFTER_S}
RestartPreventExitStatus={" ".join(map(str, FINAL_EXIT_CODES))}
# The daemon ends its runs itself; what it leaves behind is killed.
KillMode=mixed
# An engine that runs out of memory is a result, no reason to end the daemon.
OOMPolicy=continue
# Nor is the daemon the first to go when the host runs out: its local runners take this back for themselves.
OOMScoreAdjust={OOM_SCORE_ADJUST}
NoNewPrivileges=true
LimitNOFILE=65536

[Install]
WantedBy={"default.target" if self.is_users else "multi-user.target"}
"""


def unit_path(is_users: bool, name: str, config_home: Path | None = None) -> Path:
    """Where systemd looks for it."""
    if is_users:
        return (config_home or Path.home() / ".config") / "systemd" / "user" / f"{name}.service"
    return Path("/etc/systemd/system") / f"{name}.service"


def _escaped(text: str) -> str:
    """`%` begins a specifier in a unit."""
    return text.replace("%", "%%").replace("\n", " ")


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
