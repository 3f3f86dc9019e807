"""The GPU's sensors: a Protocol, the real one on NVML, and the table from NVML's errors to ours.

Each quantity degrades on its own: what a GPU, a driver or a library does not support is None from then on, with the
reason kept. A GPU that is lost raises. NVML is loaded on first use, so that a host without it can import this.
Not here: when to read (`sampler`), and what readings mean (`energy`, `baseline`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, Protocol, TypeVar

from lemctl.measure.nvml_calls import (
    VALUE_FIELDS,
    Call,
    FieldCall,
    prepare_energy,
    prepare_sample,
    prepare_throttle_reasons,
)
from lemctl.measure.readings import (
    GpuFacts,
    GpuLostError,
    GpuProcess,
    GpuSample,
    NvmlUnavailableError,
    PowerScope,
    PowerSource,
)

T = TypeVar("T")

Trouble = Literal["unsupported", "unreadable", "lost", "no_driver"]
#: What each NVML error means to us. One that is not here (a newer driver's) is `unreadable`: None, and asked again.
TROUBLE_BY_ERROR: Mapping[str, Trouble] = {
    "NVML_ERROR_UNINITIALIZED": "no_driver",
    "NVML_ERROR_INVALID_ARGUMENT": "unsupported",
    "NVML_ERROR_NOT_SUPPORTED": "unsupported",
    "NVML_ERROR_NO_PERMISSION": "unsupported",
    "NVML_ERROR_NOT_FOUND": "unsupported",
    "NVML_ERROR_FUNCTION_NOT_FOUND": "unsupported",
    "NVML_ERROR_ARGUMENT_VERSION_MISMATCH": "unsupported",
    "NVML_ERROR_DEPRECATED": "unsupported",
    "NVML_ERROR_DRIVER_NOT_LOADED": "no_driver",
    "NVML_ERROR_LIBRARY_NOT_FOUND": "no_driver",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "no_driver",
    "NVML_ERROR_GPU_IS_LOST": "lost",
    "NVML_ERROR_RESET_REQUIRED": "lost",
    "NVML_ERROR_GPU_NOT_FOUND": "lost",
    "NVML_ERROR_TIMEOUT": "unreadable",
    "NVML_ERROR_IN_USE": "unreadable",
    "NVML_ERROR_NO_DATA": "unreadable",
    "NVML_ERROR_NOT_READY": "unreadable",
    "NVML_ERROR_UNKNOWN": "unreadable",
}
MIG_REASON = "MIG is on: the counter and the power are the parent GPU's, an instance's share is not measured"

_POWER_FIELDS = ("NVML_FI_DEV_POWER_INSTANT", "NVML_FI_DEV_POWER_AVERAGE")
_POLICY_FIELDS = ("NVML_FI_DEV_PERF_POLICY_POWER", "NVML_FI_DEV_PERF_POLICY_THERMAL")
_MEMORY_TEMP_FIELD = "NVML_FI_DEV_MEMORY_TEMP"
#: What a field gives to a row of the series. The average is also the power where there is no instant one.
_READING_BY_FIELD = {
    "NVML_FI_DEV_POWER_INSTANT": "power_mw",
    "NVML_FI_DEV_POWER_AVERAGE": "power_average_mw",
    "NVML_FI_DEV_PERF_POLICY_POWER": "policy_power_ns",
    "NVML_FI_DEV_PERF_POLICY_THERMAL": "policy_thermal_ns",
    "NVML_FI_DEV_MEMORY_TEMP": "memory_temp_c",
}
_SCOPES: Mapping[PowerScope, int] = {"gpu": 0, "module": 1}


class GpuProbe(Protocol):
    """What is asked of GPU sensors. GPUs are named by UUID. Any call may raise GpuLostError."""

    def gpus(self) -> Sequence[str]:
        """UUIDs of the GPUs of this host, in index order."""
        ...

    def facts(self, gpu: str) -> GpuFacts:
        """What does not change while the GPU is up."""
        ...

    def energy_mj(self, gpu: str) -> int | None:
        """Energy since the driver was loaded, in mJ."""
        ...

    def sample(self, gpu: str) -> GpuSample:
        """Power, temperatures, clocks, utilisation, memory and throttling, now."""
        ...

    def processes(self, gpu: str) -> list[GpuProcess] | None:
        """Processes with a context on the GPU."""
        ...

    def missing(self, gpu: str) -> Mapping[str, str]:
        """Quantities that this GPU does not give, with the reasons met so far."""
        ...

    def close(self) -> None:
        """Let go of the driver."""
        ...


class NvmlProbe:
    """NVML through its official bindings. Initialised once; handles are looked up by UUID and kept."""

    def __init__(self) -> None:
        """Load the library and the driver's interface. Raises NvmlUnavailableError where there is none."""
        try:
            import pynvml
        except ImportError as error:
            raise NvmlUnavailableError(f"nvidia-ml-py cannot be imported: {error}") from error
        self._nvml: ModuleType = pynvml
        self._names: dict[int, str] = {
            value: name
            for name, value in vars(pynvml).items()
            if name.startswith("NVML_ERROR_") and isinstance(value, int)
        }
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlUnavailableError(f"NVML does not start: {error}") from error
        known = self._by_name((*_POWER_FIELDS, *_POLICY_FIELDS, _MEMORY_TEMP_FIELD), 0)
        self._readings = {field: _READING_BY_FIELD[name] for name, (field, _) in known.items()}
        self._handles: dict[str, Any] = {}
        self._missing: dict[str, dict[str, str]] = {}
        self._fields: dict[str, FieldCall | None] = {}
        self._calls: dict[str, list[Call]] = {}
        self._energy: dict[str, Call] = {}
        self._power: dict[str, tuple[PowerSource, PowerScope] | None] = {}

    def close(self) -> None:
        """Shut NVML down; a driver that is gone already is no error here."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            pass

    def gpus(self) -> list[str]:
        """UUIDs in index order. Raises NvmlUnavailableError where even the count cannot be read."""
        try:
            count = self._nvml.nvmlDeviceGetCount()
            return [_text(self._nvml.nvmlDeviceGetUUID(self._nvml.nvmlDeviceGetHandleByIndex(i))) for i in range(count)]
        except self._nvml.NVMLError as error:
            raise NvmlUnavailableError(f"GPUs cannot be listed: {error}") from error

    def missing(self, gpu: str) -> Mapping[str, str]:
        """Reasons by quantity, as met so far."""
        return dict(self._missing.get(gpu, {}))

    def facts(self, gpu: str) -> GpuFacts:
        """Identity, limits and modes."""
        nvml, handle = self._nvml, self._handle(gpu)

        def ask(name: str, call: Callable[[], T]) -> T | None:
            return self._ask(gpu, name, call)

        limits = ask("power_limits", lambda: nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle))
        ecc = ask("ecc", lambda: nvml.nvmlDeviceGetEccMode(handle))
        mig = ask("mig", lambda: nvml.nvmlDeviceGetMigMode(handle))
        persistence = ask("persistence", lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
        memory = ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        cuda = ask("cuda_driver", nvml.nvmlSystemGetCudaDriverVersion)
        index = ask("index", lambda: nvml.nvmlDeviceGetIndex(handle))
        thresholds = [
            ask(name, lambda kind=kind: int(nvml.nvmlDeviceGetTemperatureThreshold(handle, kind)))  # type: ignore[misc]
            for name, kind in (
                ("slowdown_temp", nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
                ("shutdown_temp", nvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
            )
        ]
        return GpuFacts(
            uuid=gpu,
            index=-1 if index is None else int(index),
            name=_text(ask("name", lambda: nvml.nvmlDeviceGetName(handle)) or "unknown GPU"),
            vbios=_text_or_none(ask("vbios", lambda: nvml.nvmlDeviceGetVbiosVersion(handle))),
            driver=_text_or_none(ask("driver", nvml.nvmlSystemGetDriverVersion)),
            cuda_driver=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            memory_total_b=None if memory is None else int(memory.total),
            power_limit_mw=ask("power_limit", lambda: int(nvml.nvmlDeviceGetPowerManagementLimit(handle))),
            power_limit_default_mw=ask(
                "power_limit_default", lambda: int(nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
            ),
            power_limit_min_mw=None if limits is None else int(limits[0]),
            power_limit_max_mw=None if limits is None else int(limits[1]),
            max_sm_clock_mhz=ask(
                "max_sm_clock", lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
            ),
            slowdown_temp_c=thresholds[0],
            shutdown_temp_c=thresholds[1],
            ecc=None if ecc is None else bool(ecc[0]),
            persistence=None if persistence is None else bool(persistence),
            mig=None if mig is None else bool(mig[0]),
            pcie_generation=ask("pcie_generation", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle))),
            pcie_width=ask("pcie_width", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkWidth(handle))),
            missing=self.missing(gpu),
        )

    def energy_mj(self, gpu: str) -> int | None:
        """nvmlDeviceGetTotalEnergyConsumption: Volta and newer, refused under MIG."""
        self._handle(gpu)
        if "energy" in self._missing[gpu]:
            return None
        found: dict[str, int] = {}
        self._take(gpu, self._energy[gpu], found)
        return found.get("energy_mj")

    def sample(self, gpu: str) -> GpuSample:
        """One row of the series; every quantity on its own."""
        self._handle(gpu)
        found: dict[str, int] = {}
        self._take_fields(gpu, found)
        failed = [call for call in self._calls[gpu] if not self._take(gpu, call, found)]
        if failed:
            self._calls[gpu] = self._without_missing(gpu)
        choice = self._power[gpu]
        if choice is None:
            return GpuSample(**found)  # type: ignore[arg-type]
        if choice[0] == "average" and "power_average_mw" in found:
            found["power_mw"] = found["power_average_mw"]
        return GpuSample(power_source=choice[0], power_scope=choice[1], **found)

    def processes(self, gpu: str) -> list[GpuProcess] | None:
        """Compute and graphics processes, None where neither list can be read."""
        nvml, handle = self._nvml, self._handle(gpu)
        compute = self._ask(gpu, "compute_processes", lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
        graphics = self._ask(gpu, "graphics_processes", lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle))
        if compute is None and graphics is None:
            return None
        return [GpuProcess(int(p.pid), "compute", p.usedGpuMemory) for p in compute or ()] + [
            GpuProcess(int(p.pid), "graphics", p.usedGpuMemory) for p in graphics or ()
        ]

    def _take(self, gpu: str, call: Call, found: dict[str, int]) -> bool:
        """Make a prepared call and add what it read; whether it succeeded."""
        code = call.function(*call.arguments)
        if code:
            self._note_trouble(gpu, call.quantity, code)
            return False
        for name, holder, attribute in call.results:
            found[name] = getattr(holder, attribute)
        return True

    def _take_fields(self, gpu: str, found: dict[str, int]) -> None:
        """The chosen fields in one call; a field that fails this time is left out."""
        fields = self._fields[gpu]
        if fields is None or "field_values" in self._missing[gpu]:
            return
        code, failed = fields.read_into(found)
        if code:
            self._note_trouble(gpu, "field_values", code)
        if any(self._trouble(each) == "lost" for each in failed):
            raise GpuLostError(f"GPU {gpu} is lost (field values)")
        # 0 C stands for a board without that sensor.
        if found.get("memory_temp_c") == 0:
            del found["memory_temp_c"]

    def _without_missing(self, gpu: str) -> list[Call]:
        """The calls of a row that are still worth making, after some turned out not to be supported."""
        missing = self._missing[gpu]
        left = [call for call in self._calls[gpu] if call.quantity not in missing]
        tried = {call.quantity for call in self._calls[gpu]}
        if "event_reasons" in tried and "event_reasons" in missing:
            left.append(prepare_throttle_reasons(self._nvml, self._handles[gpu]))
        return left

    def _handle(self, gpu: str) -> Any:
        if gpu not in self._handles:
            nvml = self._nvml
            try:
                self._handles[gpu] = nvml.nvmlDeviceGetHandleByUUID(gpu)
            except nvml.NVMLError as error:
                raise GpuLostError(f"GPU {gpu} is not there: {error}") from error
            self._missing[gpu] = {}
            mig = self._ask(gpu, "mig", lambda: nvml.nvmlDeviceGetMigMode(self._handles[gpu]))
            if mig is not None and mig[0]:
                self._missing[gpu] |= {"energy": MIG_REASON, "power": MIG_REASON, "power_usage": MIG_REASON}
            self._choose_fields(gpu)
            choice = self._power[gpu]
            with_power_usage = choice is not None and choice[0] == "usage"
            self._calls[gpu] = prepare_sample(nvml, self._handles[gpu], with_power_usage=with_power_usage)
            self._energy[gpu] = prepare_energy(nvml, self._handles[gpu])
        return self._handles[gpu]

    def _ask(self, gpu: str, quantity: str, call: Callable[[], T]) -> T | None:
        """One call, translated: the value, None (and the reason kept where it is for good), or GpuLostError."""
        missing = self._missing[gpu]
        if quantity in missing:
            return None
        try:
            return call()
        except self._nvml.NVMLError as error:
            self._note_trouble(gpu, quantity, error.value)
            return None

    def _note_trouble(self, gpu: str, quantity: str, code: int) -> None:
        """Keep the reason where a quantity is missing for good. Raises GpuLostError where it is the GPU."""
        trouble, error = self._trouble(code), self._nvml.NVMLError(code)
        if trouble in ("lost", "no_driver"):
            raise GpuLostError(f"GPU {gpu} is lost ({quantity}): {error}")
        if trouble == "unsupported":
            self._missing[gpu][quantity] = str(error)

    def _trouble(self, code: int) -> Trouble:
        return TROUBLE_BY_ERROR.get(self._names.get(code, ""), "unreadable")

    def _choose_fields(self, gpu: str) -> None:
        """Which power this GPU gives: instant or average field, of the GPU or else its module; else the usage call."""
        self._fields[gpu], self._power[gpu] = None, None
        if "power" in self._missing[gpu]:
            return
        chosen: list[tuple[int, int]] = []
        for scope, number in _SCOPES.items():
            wanted = self._by_name(_POWER_FIELDS, number)
            values = self._field_values(gpu, wanted)
            found = [name for name, (field, _) in wanted.items() if isinstance(values.get(field), int)]
            if found:
                source: PowerSource = "instant" if _POWER_FIELDS[0] in found else "average"
                self._power[gpu] = (source, scope)
                chosen = [wanted[name] for name in found]
                break
        else:
            self._missing[gpu]["power_fields"] = "no field value for power; nvmlDeviceGetPowerUsage is used"
            self._power[gpu] = ("usage", "gpu")
        rest = self._by_name((*_POLICY_FIELDS, _MEMORY_TEMP_FIELD), 0)
        values = self._field_values(gpu, rest)
        for name, (field, number) in rest.items():
            if isinstance(values.get(field), int):
                chosen.append((field, number))
            else:
                self._missing[gpu][name.removeprefix("NVML_FI_DEV_").lower()] = str(values.get(field, "no value"))
        if chosen:
            self._fields[gpu] = FieldCall(self._nvml, self._handles[gpu], chosen, self._readings)

    def _by_name(self, names: Sequence[str], scope: int) -> dict[str, tuple[int, int]]:
        """Field ids by name: they have moved between releases of the bindings, and older ones lack some."""
        return {name: (getattr(self._nvml, name), scope) for name in names if hasattr(self._nvml, name)}

    def _field_values(self, gpu: str, wanted: Mapping[str, tuple[int, int]]) -> dict[int, int | str]:
        """Values by field id; where a field has none, the reason."""
        asked = list(wanted.values())
        got = self._ask(gpu, "field_values", lambda: self._nvml.nvmlDeviceGetFieldValues(self._handles[gpu], asked))
        if got is None:
            reason = self._missing[gpu].get("field_values", "field values could not be read")
            return {field: reason for field, _ in asked}
        return {value.fieldId: self._decode(gpu, value) for value in got}

    def _decode(self, gpu: str, value: Any) -> int | str:
        code = int(value.nvmlReturn)
        if code == self._nvml.NVML_SUCCESS:
            return int(getattr(value.value, VALUE_FIELDS[value.valueType]))
        if self._trouble(code) == "lost":
            raise GpuLostError(f"GPU {gpu} is lost (field {value.fieldId})")
        return self._names.get(code, f"NVML error {code}")


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _text_or_none(value: str | bytes | None) -> str | None:
    return None if value is None else _text(value)
