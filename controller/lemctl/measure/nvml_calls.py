"""NVML's repeated reads, with their buffers made once.

For every call the bindings make new C objects, look the function up and decode anew. Ten times a second, in a process
whose caches have gone cold since the last time, that costs about twice what the reading itself does. Here the
bindings' own structures, constants and loaded library are used, and nothing is allocated per reading.
Not here: what an error means (`gpu`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

#: Attribute of the union `nvmlValue_t` by `nvmlValueType_t`.
VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(frozen=True, slots=True)
class Call:
    """One function with its arguments; after a return of 0, `results` (reading, holder, attribute) hold the values."""

    quantity: str
    function: Callable[..., int]
    arguments: tuple[Any, ...]
    results: tuple[tuple[str, Any, str], ...]


class FieldCall:
    """Several field values in one call; each has a return code of its own."""

    def __init__(self, nvml: ModuleType, handle: Any, fields: Sequence[tuple[int, int]], names: Mapping[int, str]):
        """`fields` are (id, scope), `names` the reading that each id gives."""
        self._function = find_function(nvml, "nvmlDeviceGetFieldValues")
        array = (nvml.c_nvmlFieldValue_t * len(fields))()
        for slot, (number, scope) in zip(array, fields, strict=True):
            slot.fieldId, slot.scopeId = number, scope
        self._arguments = (handle, len(fields), ctypes.byref(array))
        self._slots = [(names[slot.fieldId], slot, slot.value) for slot in array]

    def read_into(self, found: dict[str, int]) -> tuple[int, list[int]]:
        """Add the values by reading. Returns the call's code, and the codes of fields that had no value."""
        code = self._function(*self._arguments)
        if code:
            return code, []
        failed = []
        for name, slot, value in self._slots:
            if slot.nvmlReturn:
                failed.append(slot.nvmlReturn)
            else:
                found[name] = int(getattr(value, VALUE_FIELDS[slot.valueType]))
        return 0, failed


def find_function(nvml: ModuleType, name: str) -> Callable[..., int]:
    """A function of the loaded library; one that it lacks answers with NVML's own code for that."""
    absent: int = nvml.NVML_ERROR_FUNCTION_NOT_FOUND
    found: Callable[..., int] = getattr(nvml.nvmlLib, name, lambda *_: absent)
    return found


def prepare_energy(nvml: ModuleType, handle: Any) -> Call:
    """The energy counter, in mJ."""
    return _prepare_one(
        nvml, handle, "energy", "nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong(), "energy_mj"
    )


def prepare_throttle_reasons(nvml: ModuleType, handle: Any) -> Call:
    """The event reasons under the name that drivers before 535 know them by."""
    function = "nvmlDeviceGetCurrentClocksThrottleReasons"
    return _prepare_one(nvml, handle, "throttle_reasons", function, ctypes.c_ulonglong(), "event_reasons")


def prepare_sample(nvml: ModuleType, handle: Any, *, with_power_usage: bool) -> list[Call]:
    """Everything of a row of the series that is no field value; results are named as in `GpuSample`."""
    use, memory = nvml.c_nvmlUtilization_t(), nvml.c_nvmlMemory_t()
    calls = [
        Call(
            "utilisation",
            find_function(nvml, "nvmlDeviceGetUtilizationRates"),
            (handle, ctypes.byref(use)),
            (("gpu_utilisation_pct", use, "gpu"), ("memory_utilisation_pct", use, "memory")),
        ),
        Call(
            "memory",
            find_function(nvml, "nvmlDeviceGetMemoryInfo"),
            (handle, ctypes.byref(memory)),
            (("memory_used_b", memory, "used"),),
        ),
        _prepare_number(nvml, handle, "temperature", "nvmlDeviceGetTemperature", "temp_c", nvml.NVML_TEMPERATURE_GPU),
        _prepare_number(nvml, handle, "sm_clock", "nvmlDeviceGetClockInfo", "sm_clock_mhz", nvml.NVML_CLOCK_SM),
        _prepare_number(
            nvml, handle, "memory_clock", "nvmlDeviceGetClockInfo", "memory_clock_mhz", nvml.NVML_CLOCK_MEM
        ),
        _prepare_one(
            nvml,
            handle,
            "event_reasons",
            "nvmlDeviceGetCurrentClocksEventReasons",
            ctypes.c_ulonglong(),
            "event_reasons",
        ),
    ]
    if with_power_usage:
        calls.append(_prepare_one(nvml, handle, "power_usage", "nvmlDeviceGetPowerUsage", ctypes.c_uint(), "power_mw"))
    return calls


def _prepare_one(nvml: ModuleType, handle: Any, quantity: str, function: str, holder: Any, reading: str) -> Call:
    arguments = (handle, ctypes.byref(holder))
    return Call(quantity, find_function(nvml, function), arguments, ((reading, holder, "value"),))


def _prepare_number(nvml: ModuleType, handle: Any, quantity: str, function: str, reading: str, kind: int) -> Call:
    holder = ctypes.c_uint()
    arguments = (handle, kind, ctypes.byref(holder))
    return Call(quantity, find_function(nvml, function), arguments, ((reading, holder, "value"),))
