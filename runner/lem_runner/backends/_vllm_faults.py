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
#: A kernel that was not compiled into this build, in torch's words: declared and left empty, or not there.
_MISSING_KERNEL = re.compile(
    r"_C\w*::(\w+)\(\) expected at most 0 argument|'_OpNamespace' '_C\w*' object has no attribute '(\w+)'"
)
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
            return EngineLostError(f"the engine's process ended: {_line(str(error) or type(error).__name__)}")
        name, text = cause
        refusal = _refusal({name}, text)
        return EngineLostError(f"{name}: {text}") if refusal is None else EngineRefusedError(refusal)

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
        refusal = _refusal({cls.__name__ for cls in type(error).__mro__}, str(error))
        if refusal is not None:
            raise BadRequestError(refusal) from error
        raise


def is_end_of_engine(error: BaseException) -> bool:
    """Whether it tells that the engine's processes are gone."""
    return type(error).__name__ == "EngineDeadError" or "Engine core initialization failed" in str(error)


def _refusal(names: set[str], text: str) -> str | None:
    """What to tell of an error of these classes that is a refusal; None: it is none."""
    if kernel := _MISSING_KERNEL.search(text):
        return f"this build of vLLM has no kernel {kernel[1] or kernel[2]}, which what was asked needs"
    return _line(text) if names & set(_REFUSALS) else None


def _line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A head, with what it is about on the next lines: pydantic's count of complaints, a list of reasons.
    is_headed = len(lines) > 1 and ("validation error" in lines[0] or lines[0].endswith(":"))
    told = " ".join(lines[:3]) if is_headed else lines[0] if lines else "without a word"
    # Behind each complaint pydantic repeats what it was given.
    return told.partition(" [type=")[0]


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
