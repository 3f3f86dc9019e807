"""Where the addresses of notifications stand: an environment variable, or a file in the state folder. A campaign names
the place and never holds an address; the name begins with LEM_NOTIFY, so that no other secret can be named."""

from __future__ import annotations

import os
from pathlib import Path

from lemctl.engines.entrusted import open_entrusted
from lemctl.errors import PreflightRefused
from lemctl.paths import Home
from lemctl.redact import ADDRESS_PREFIX

MAX_BYTES = 16_384
MAX_ADDRESSES = 20


def addresses_named(name: str, home: Home) -> list[str]:
    """The addresses, from the variable if it is set, else from the file. Raises `PreflightRefused` with what to do."""
    if not name.startswith(ADDRESS_PREFIX):
        raise PreflightRefused(f"addresses are named {ADDRESS_PREFIX}..., not {name!r}")
    text = os.environ.get(name) or _from_file(name, home)
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    found = [address for line in lines if not line.startswith("#") for address in line.split()]
    if not found or len(found) > MAX_ADDRESSES:
        raise PreflightRefused(f"{name} holds {len(found)} addresses; put 1 to {MAX_ADDRESSES} there, one a line")
    return found


def _from_file(name: str, home: Home) -> str:
    path = home.notify / name
    try:
        fd = open_entrusted(path, os.O_RDONLY)
    except FileNotFoundError:
        raise PreflightRefused(
            f"{name} is neither set nor a file: put addresses (see https://github.com/caronc/apprise) into {path}, "
            f"one a line, mode 600"
        ) from None
    except OSError as error:
        raise PreflightRefused(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise PreflightRefused(f"{path} must be a file of yours that nobody else can read: chmod 600 {path}")
        if status.st_size > MAX_BYTES:
            raise PreflightRefused(f"{path} is larger than {MAX_BYTES} bytes")
        return file.read(MAX_BYTES).decode(errors="replace")


def daemon_lacks(name: str, home: Home, pid: int) -> bool:
    """Whether a running daemon can find no addresses: neither in the environment it was started with nor in a file."""
    if (home.notify / name).is_file():
        return False
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # not ours to look at
    return not any(variable.startswith(name.encode() + b"=") for variable in variables)
