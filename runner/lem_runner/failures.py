"""From an exception to the kind of failure that the controller acts on. The only table of engines' error texts.

Pure, and importable without any engine: foreign exception classes are known by name.
"""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from typing import Any

from lem_runner.protocol import RunnerFaultKind

MESSAGE_LIMIT = 500
TRACEBACK_LIMIT = 8_000

#: What engines and allocators write when GPU memory is out: torch, CUDA libraries, vLLM's KV-cache check.
_GPU_MEMORY_TEXTS = (
    "cuda out of memory",
    "cuda error: out of memory",
    "hip out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cudaerrormemoryallocation",
    # TensorRT-LLM: "CUDA runtime error in ...: out of memory".
    ": out of memory",
    "no available memory for the cache blocks",
)
#: torch's CPU allocator and the kernel.
_HOST_MEMORY_TEXTS = (
    "defaultcpuallocator: can't allocate memory",
    "defaultcpuallocator: not enough memory",
    "cannot allocate memory",
    "std::bad_alloc",
)
#: After these the CUDA context is lost for the process.
_CUDA_FATAL_TEXTS = ("cuda error", "cudnn_status_", "cublas_status_", "nccl error", "device-side assert")


class BadRequestError(ValueError):
    """What was asked cannot be done by this engine, and asking again will not help."""


class EngineLostError(RuntimeError):
    """The engine's own process is gone: nothing more can be asked of this session."""


class SessionFolderError(Exception):
    """The session folder cannot be written: nothing more can be told to the controller."""


@dataclass(frozen=True)
class Failure:
    """One `error` event: `message` is one line, `traceback` at most 8 kB."""

    kind: RunnerFaultKind
    message: str
    traceback: str
    fatal: bool

    def to_json(self) -> dict[str, Any]:
        """The data of the event."""
        return {"kind": self.kind, "message": self.message, "traceback": self.traceback, "fatal": self.fatal}


class ToldError(Exception):
    """Another process of this engine has failed, and told how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException, *, is_loading: bool) -> Failure:
    """Classify what an engine raised. Every failure to load is fatal: half an engine may be left on the device."""
    if isinstance(error, ToldError):
        return error.failure
    chain = list(_chain(error))
    fatal = is_loading or any(isinstance(link, EngineLostError) or _is_cuda_fatal(link) for link in chain)
    kind: RunnerFaultKind = "engine_error"
    for link in chain:
        found = _kind_of(link)
        if found is not None:
            kind = found
            break
    return Failure(kind, one_line(error), _capped_traceback(error), fatal)


def one_line(error: BaseException) -> str:
    """The class and the first non-empty line of the text, capped."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    text = lines[0] if lines else name
    if not isinstance(error, BadRequestError) and lines:
        text = f"{name}: {text}"
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 3] + "..."


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _kind_of(error: BaseException) -> RunnerFaultKind | None:
    text = str(error).lower()
    names = {cls.__name__ for cls in type(error).__mro__}
    if "OutOfMemoryError" in names or any(mark in text for mark in _GPU_MEMORY_TEXTS):
        return "oom_gpu"
    if isinstance(error, MemoryError) or any(mark in text for mark in _HOST_MEMORY_TEXTS):
        return "oom_host"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "oom_host"
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return "bad_request"
    return None


def _is_cuda_fatal(error: BaseException) -> bool:
    text = str(error).lower()
    return any(mark in text for mark in _CUDA_FATAL_TEXTS)


def _capped_traceback(error: BaseException) -> str:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return text if len(text) <= TRACEBACK_LIMIT else "...\n" + text[-(TRACEBACK_LIMIT - 4) :]
