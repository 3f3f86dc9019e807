"""From what an engine raises to what the controller acts on."""

from __future__ import annotations

import errno

import pytest

from lem_runner.failures import BadRequestError, failure_of
from lem_runner.parameters import Parameter, resolve


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "oom_gpu"),
        (RuntimeError("CUDA error: out of memory"), "oom_gpu"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "oom_gpu"),
        (ValueError("No available memory for the cache blocks. Try increasing gpu_memory_utilization"), "oom_gpu"),
        (MemoryError(), "oom_host"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "oom_host"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom_host"),
        (ValueError("num_beams must be positive"), "bad_request"),
        (BadRequestError("too long"), "bad_request"),
        (RuntimeError("expected scalar type Half"), "engine_error"),
        (SystemExit(3), "engine_error"),
        (KeyError("x"), "engine_error"),
    ],
)
def test_each_kind_is_recognised(error: BaseException, kind: str) -> None:
    assert failure_of(error, is_loading=False).kind == kind


def test_the_cause_below_decides() -> None:
    error = RuntimeError("engine core died")
    error.__cause__ = OutOfMemoryError("CUDA out of memory")
    assert failure_of(error, is_loading=False).kind == "oom_gpu"


@pytest.mark.parametrize(
    ("text", "fatal"),
    [
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("shape mismatch", False),
    ],
)
def test_only_a_lost_device_is_fatal_outside_loading(text: str, fatal: bool) -> None:
    assert failure_of(RuntimeError(text), is_loading=False).fatal is fatal
    assert failure_of(RuntimeError(text), is_loading=True).fatal is True


def test_message_is_one_capped_line_and_traceback_keeps_its_end() -> None:
    def deep(level: int) -> None:
        if level == 0:
            raise RuntimeError("\n\n  first line " + "x" * 9_000 + "\nsecond line")
        deep(level - 1)

    try:
        deep(50)
    except RuntimeError as error:
        failure = failure_of(error, is_loading=False)
    assert "\n" not in failure.message
    assert failure.message.startswith("RuntimeError: first line")
    assert len(failure.message) <= 500
    assert len(failure.traceback) <= 8_000
    assert failure.traceback.rstrip().endswith("second line")


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (Parameter("p", "int", 1, "engine"), True, "must be a whole number, found true"),
        (Parameter("p", "int", 1, "engine"), 1.0, "must be a whole number, found 1.0"),
        (Parameter("p", "int", 1, "engine"), None, "must have a value"),
        (Parameter("p", "float", 1.0, "engine"), float("nan"), "finite"),
        (Parameter("p", "float", 1.0, "engine", minimum=0), -1, "at least 0"),
        (Parameter("p", "float", 1.0, "engine", maximum=1), 2, "at most 1"),
        (Parameter("p", "str", "a", "engine", choices=("a", "b")), "c", "found 'c'; allowed: a, b"),
    ],
)
def test_a_wrong_value_is_refused_by_name(parameter: Parameter, value: object, text: str) -> None:
    with pytest.raises(BadRequestError, match=text):
        resolve([parameter], "engine", {"p": value})


def test_none_is_legal_exactly_where_it_is_the_default() -> None:
    assert resolve([Parameter("p", "int", None, "engine")], "engine", {"p": None}) == {"p": None}
    assert resolve([Parameter("p", "float", 2.0, "engine")], "engine", {}) == {"p": 2.0}


def test_a_parameter_of_the_other_group_is_unknown() -> None:
    with pytest.raises(BadRequestError, match="unknown sampling parameter 'p'"):
        resolve([Parameter("p", "int", 1, "engine")], "sampling", {"p": 1})
