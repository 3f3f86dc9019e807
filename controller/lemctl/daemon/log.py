"""The daemon's log: JSON lines without secrets, rotated, 0600."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from lemctl.redact import redact

ROTATE_B = 5_000_000
KEEP = 5


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at_utc": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


class _Private(logging.handlers.RotatingFileHandler):
    """Every file of it is ours alone, those that a rotation begins too."""

    def _open(self) -> TextIOWrapper:
        fd = os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return open(fd, "a", encoding="utf-8")  # noqa: PTH123 - a descriptor, not a path


def open_log(path: Path) -> logging.Logger:
    """The logger `lemctl`, writing to `path`."""
    handler = _Private(path, maxBytes=ROTATE_B, backupCount=KEEP)
    handler.setFormatter(_JsonLines())
    logger = logging.getLogger("lemctl")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # a log on a full disk loses a line; a traceback of that would lose another
    return logger
