"""What went wrong in vLLM's own processes, and as which of our kinds it is told.

The engine runs in processes of its own. When one of them fails, the caller learns no more than that it is dead; the
cause stands in the log of the dead. So errors of every process are also written to a file, by vLLM's own logging, and
read from there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lem_runner import oom
from lem_runner.failures import BadRequestError, EngineLostError

#: The last line of a traceback: the class, with or without its module, and what it says.
_RAISED = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Fault)): (.*)$", re.MULTILINE)
#: What an engine raises about a request or a setting, beside Python's own ValueError.
_REFUSALS = ("VLLMValidationError", "VLLMClientError", "ValidationError", "ValueError", "NotImplementedError")
#: What only tells that another process failed.
_ECHOES = ("EngineDeadError", "RuntimeError: Engine core initialization failed", "RuntimeError: Worker failed")
_READ_LIMIT_B = 1_000_000


class EngineRefusedError(BadRequestError, EngineLostError):
    """What was asked has ended the engine: asking again will not help, and the session is over."""


class FaultLog:
    """A file of errors in `folder`, and the logging configuration that makes every process of vLLM write there too."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "errors.log"
        self.config = folder / "logging.json"
        self.config.write_text(json.dumps(_logging_config(self._path)))
        self._oom_kills = oom.oom_kills()

    def lost(self, error: BaseException) -> Exception:
        """What ended the engine, for `error` that told of its end."""
        if oom.has_grown(self._oom_kills, oom.oom_kills()):
            return EngineLostError("the kernel ended a process of the engine: cannot allocate memory")
        cause = self._first_cause()
        if cause is None:
            return EngineLostError(f"the engine's process ended: {_line(error)}")
        name, text = cause
        if name in _REFUSALS:
            return EngineRefusedError(text)
        return EngineLostError(f"{name}: {text}")

    def _first_cause(self) -> tuple[str, str] | None:
        """Class and text of the first error that is no echo of another."""
        try:
            with self._path.open("rb") as file:
                text = file.read(_READ_LIMIT_B).decode(errors="replace")
        except OSError:
            return None
        found = (
            match for match in _RAISED.finditer(text) if not match[0].rpartition("exceptions.")[2].startswith(_ECHOES)
        )
        first = next(found, None)
        return None if first is None else (first[1], first[2].strip())


@contextmanager
def translated() -> Iterator[None]:
    """Refusals of the engine become `BadRequestError`; everything else passes as it is."""
    try:
        yield
    except BadRequestError:
        raise
    except Exception as error:
        if {cls.__name__ for cls in type(error).__mro__} & set(_REFUSALS):
            raise BadRequestError(_line(error)) from error
        raise


def is_end_of_engine(error: BaseException) -> bool:
    """Whether it tells that the engine's processes are gone."""
    return type(error).__name__ == "EngineDeadError" or "Engine core initialization failed" in str(error)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydantic heads its list of complaints with a count.
    is_headed = len(lines) > 1 and "validation error" in lines[0]
    return " ".join(lines[:3]) if is_headed else lines[0] if lines else type(error).__name__


def _logging_config(path: Path) -> dict[str, Any]:
    """As `logging.config.dictConfig` takes it: everything to standard output, errors also to `path`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "whole": {"format": "%(asctime)s %(processName)s %(levelname)s %(name)s: %(message)s"},
            # Nothing before the text, so that a traceback reads as Python prints it.
            "bare": {"format": "%(message)s"},
        },
        "handlers": {
            "log": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "whole"},
            "errors": {
                "class": "logging.FileHandler",
                "filename": str(path),
                "delay": True,
                "level": "ERROR",
                "formatter": "bare",
            },
        },
        "loggers": {"vllm": {"handlers": ["log", "errors"], "level": "INFO", "propagate": False}},
    }
