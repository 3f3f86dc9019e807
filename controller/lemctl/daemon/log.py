"""The daemon's log: JSON lines, rotated, 0600."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import UTC, datetime
from pathlib import Path

ROTATE_B = 5_000_000
KEEP = 5


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at_utc": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def open_log(path: Path) -> logging.Logger:
    """The logger `lemctl`, writing to `path`."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=ROTATE_B, backupCount=KEEP)
    handler.setFormatter(_JsonLines())
    logger = logging.getLogger("lemctl")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # a log on a full disk loses a line; a traceback of that would lose another
    return logger
