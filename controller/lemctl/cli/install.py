"""`lemctl daemon install`: the daemon's unit, written where systemd looks for it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from lemctl.cli.terminal import out, say, warn
from lemctl.daemon.unit import MARK, Unit, unit_path
from lemctl.errors import UsageMistake
from lemctl.redact import ADDRESS_PREFIX
from lemctl.settings import load_settings

#: Go with the unit beside the settings: which client and driver the daemon finds.
_PASSED = ("PATH", "DOCKER_HOST", "DOCKER_CONTEXT", "LD_LIBRARY_PATH")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,60}")


def install_unit(*, is_users: bool, name: str, print_only: bool) -> None:
    """Write it, and say what comes next. Raises `UsageMistake` where somebody else's unit has that name."""
    if not _NAME.fullmatch(name):
        raise UsageMistake(f"{name!r} is no name of a unit: letters, digits and `_.@-`")
    home = load_settings().paths
    settings = {key: value for key, value in os.environ.items() if key.startswith("LEM_") and key != "LEM_HOME"}
    addresses = sorted(key for key in settings if key.startswith(ADDRESS_PREFIX))
    kept = {key: value for key, value in settings.items() if key not in addresses}
    kept |= {key: os.environ[key] for key in _PASSED if os.environ.get(key)}
    text = Unit(sys.executable, home.root, kept, is_users).text()
    for key in addresses:
        warn(f"{key} does not go into the unit, which anybody can read: put it into {home.notify / key}, mode 600")
    if print_only:
        out(text.rstrip())
        return
    config = os.environ.get("XDG_CONFIG_HOME")
    path = unit_path(is_users, name, Path(config) if config else None)
    _write(path, text, is_users)
    manager = "systemctl --user" if is_users else "systemctl"
    say(f"wrote {path}")
    say(f"next: {manager} daemon-reload && {manager} enable --now {name}")
    if is_users:
        say("and, so that it lives on after you log out: loginctl enable-linger")


def _write(path: Path, text: str, is_users: bool) -> None:
    try:
        if path.exists() and not path.read_text().startswith(MARK):
            raise UsageMistake(f"{path} is not of lemctl's making: choose another --name, or move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(text)
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        hint = "" if is_users else "; with --user it needs no root"
        raise UsageMistake(f"{path} cannot be written: {error.strerror}{hint}") from None
