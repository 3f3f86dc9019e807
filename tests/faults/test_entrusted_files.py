"""What a container may do to the folder that it shares with us: links, pipes and devices in place of files. None is
followed, none blocks, and nothing outside that folder is read or written."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from lem_runner.protocol import LEASE_FILE
from lemctl.cancel import Cancel
from lemctl.engines.entrusted import read_entrusted, touch_entrusted, write_entrusted
from lemctl.engines.logs import CappedLog, read_log
from lemctl.engines.session import Session
from lemctl.engines.watchdogs import Limits
from lemctl.errors import RunFailed


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.write_text("precious")
    os.utime(path, (1, 1))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "session"
    made.mkdir()
    return made


def is_untouched(path: Path) -> bool:
    return path.read_text() == "precious" and path.stat().st_mtime == 1


@pytest.mark.parametrize("exists", [True, False])
def test_no_link_is_followed(folder: Path, outside: Path, exists: bool) -> None:
    target = outside if exists else folder.parent / "not-there"
    link = folder / "file"
    link.symlink_to(target)
    for what in (
        lambda: read_entrusted(link, 100),
        lambda: touch_entrusted(link),
        lambda: write_entrusted(link, b"x"),
        lambda: write_entrusted(link, b"x", os.O_APPEND),
    ):
        with pytest.raises(OSError, match="symbolic links"):
            what()
    assert is_untouched(outside)
    assert not (folder.parent / "not-there").exists()


def test_a_pipe_or_a_device_blocks_nobody(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    if os.getuid() == 0:
        (folder / "device").unlink()
        os.mknod(folder / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    for path in (folder / "pipe", folder / "device"):
        for what in (
            lambda p=path: read_entrusted(p, 100),
            lambda p=path: touch_entrusted(p),
            lambda p=path: write_entrusted(p, b"x"),
            lambda p=path: write_entrusted(p, b"x", os.O_APPEND),
        ):
            with pytest.raises(OSError, match=r"not a plain file|No such device|symbolic links"):
                what()


def test_too_long_a_file_is_not_read(folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="larger than 100 bytes"):
        read_entrusted(folder / "file", 100)
    assert read_entrusted(folder / "none", 100) is None


class Silent:
    def poll(self) -> None:
        return None

    def last_words(self) -> str:
        return ""


def test_a_lease_that_became_a_link_ends_the_attempt_and_touches_nothing(folder: Path, outside: Path) -> None:
    (folder / LEASE_FILE).symlink_to(outside)
    session = Session(Silent(), folder, Limits())  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match="the lease in the session folder cannot be kept") as failed:
        session.greet(Cancel())
    assert failed.value.kind == "bad_result"
    assert is_untouched(outside)


def test_a_log_that_became_a_link_is_neither_written_nor_shown(folder: Path, outside: Path) -> None:
    for name in ("stdout.log", "stdout.tail"):
        (folder / name).symlink_to(outside)
    out, into = os.pipe()
    log = CappedLog(os.fdopen(out, "rb"), folder / "stdout.log")
    with os.fdopen(into, "wb") as writer:
        writer.write(b"y" * (3 << 20))
    log.join(20)
    assert log.total_b == 3 << 20
    assert is_untouched(outside)
    shown = read_log(folder / "stdout.log", 0, None)
    assert b"precious" not in shown
    assert b"not shown" in shown


@pytest.mark.parametrize(
    "key",
    [
        "privileged: true", "cap_add: [ALL]", "volumes: [/:/host]", "image: other", "executor: local", "user: root",
        "network_mode: host", "environment: {HF_TOKEN: x}", "entrypoint: [sh]", "devices: [/dev/sda]", "home: /tmp",
        "model: path:../../etc", "model: path:/etc", "workload.dataset: file:../../etc/passwd",
        "workload.dataset: file:/etc/passwd", "model: hf:../../x/y",
    ],
)  # fmt: skip
def test_a_campaign_file_widens_no_right_and_leaves_no_folder(tmp_path: Path, key: str) -> None:
    from lemctl.campaign.file import loads
    from lemctl.errors import CampaignFileError

    name = key.partition(":")[0]
    base: dict[str, Any] = {
        "name": "x", "model": '"random:{vocab_size: 100}"', "backend": "replay", "workload.dataset": "random",
        "workload.random.input_len": "4", "workload.max_new_tokens": "4",
    }  # fmt: skip
    lines = [f"{k}: {v}" for k, v in base.items() if k != name] + [key]
    if name == "workload.dataset":
        lines.remove("workload.random.input_len: 4")
    with pytest.raises(CampaignFileError) as refused:
        loads("\n".join(lines) + "\n", "f.yaml", model_dirs=(tmp_path,), dataset_dirs=(tmp_path,))
    assert refused.value.key == name, "refused for something else"
