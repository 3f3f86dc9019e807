"""Builds the NVML stand-in, and sets its model and its faults while other processes read it.

The one thing that a machine without a GPU lacks is replayed here; the bindings, the sampler and its pipe are real.
Model time runs `scale` times as fast as the clock. `struct state` of nvml_stub.c is mirrored by the ctypes below.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
CUDA_SOURCE = Path(__file__).with_name("cuda_stub.c")
MAX_GPUS, MAX_SEGMENTS, MAX_PROCESSES = 4, 64, 8


class _Segment(ctypes.Structure):
    _fields_ = [("at_s", ctypes.c_double), ("load_w", ctypes.c_double)]


class Gpu(ctypes.Structure):
    """One GPU of the model: constants, and switches for faults that may be thrown at any time."""

    _fields_ = [
        *(
            (name, ctypes.c_double)
            for name in ("idle_w", "loaded_w", "leakage_w_per_c", "ambient_c", "c_per_w", "tau_s")
        ),
        *((name, ctypes.c_double) for name in ("tick_s", "noise_w", "counter_gain", "counter_lag_s")),
        *((name, ctypes.c_double) for name in ("counter_stop_s", "counter_reset_s", "thermal_share")),
        ("event_reasons", ctypes.c_uint64),
        *((name, ctypes.c_int32) for name in ("lost", "hang", "mig", "no_counter", "no_power_fields", "module_only")),
        *((name, ctypes.c_int32) for name in ("zero_power", "no_processes_call", "processes", "segments")),
        ("pids", ctypes.c_uint32 * MAX_PROCESSES),
        ("segment", _Segment * MAX_SEGMENTS),
    ]

    def add_load(self, at_s: float, load_w: float) -> None:
        """From a model time in the future on, this much dynamic power."""
        self.segment[self.segments] = _Segment(at_s, load_w)
        self.segments += 1

    def set_processes(self, *pids: int) -> None:
        """Who holds a context on it."""
        for index, pid in enumerate(pids):
            self.pids[index] = pid
        self.processes = len(pids)


class _State(ctypes.Structure):
    _fields_ = [
        ("t0_ns", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("driver_gone", ctypes.c_int32),
        ("gpus", ctypes.c_int32),
        ("gpu", Gpu * MAX_GPUS),
    ]


def build_stub(flags: tuple[str, ...] = ()) -> Path:
    """Compile the library once per source and flags; the folder to put on LD_LIBRARY_PATH."""
    digest = hashlib.sha256(SOURCE.read_bytes() + repr(flags).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"lemctl-nvml-stub-{digest}"
    library = folder / "libnvidia-ml.so.1"
    if not library.exists():
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / "lib.so"
            command = [
                "gcc",
                "-O2",
                "-shared",
                "-fPIC",
                "-Wall",
                "-Wextra",
                *flags,
                "-o",
                str(built),
                str(SOURCE),
                "-lm",
            ]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            built.rename(library)
    return folder


def build_cuda(folder: Path) -> None:
    """Make a `libcuda.so.1` of one device in a folder."""
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-o", str(folder / "libcuda.so.1"), str(CUDA_SOURCE)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


class NvmlStub:
    """A host with model GPUs. `environment` is what a process needs to see them."""

    def __init__(self, folder: Path, gpus: int = 1, scale: float = 1.0, flags: tuple[str, ...] = ()) -> None:
        self._library_folder = build_stub(flags)
        self._path = folder / "nvml-state"
        self._path.write_bytes(bytes(ctypes.sizeof(_State)))
        self._file = self._path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), 0)
        self.state = _State.from_buffer(self._map)
        self.state.scale, self.state.gpus = scale, gpus
        self.state.t0_ns = time.monotonic_ns()
        for index in range(MAX_GPUS):
            gpu = self.state.gpu[index]
            gpu.idle_w, gpu.leakage_w_per_c, gpu.ambient_c = 70.0, 0.3, 30.0
            gpu.c_per_w, gpu.tau_s, gpu.tick_s, gpu.counter_gain = 0.06, 40.0, 0.1, 1.0
            gpu.counter_stop_s = gpu.counter_reset_s = -1.0
        self._library = ctypes.CDLL(str(self._library_folder / "libnvidia-ml.so.1"))
        self._library.stub_energy_j.restype = ctypes.c_double
        self._library.stub_energy_j.argtypes = [ctypes.c_int, ctypes.c_int64]
        if self._library.stub_open(str(self._path).encode()) != 0:
            raise OSError(f"the stub cannot map {self._path}")

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for a process that is to see these GPUs."""
        return {"LD_LIBRARY_PATH": str(self._library_folder), "LEM_NVML_STUB": str(self._path)}

    def host_environment(self, *, with_cuda: bool = False) -> dict[str, str]:
        """As `environment`, for a process that hands on no more than LD_LIBRARY_PATH to its own children; `with_cuda`
        lays a driver beside it that gives contexts."""
        if with_cuda:
            build_cuda(self._path.parent)
        library = self._path.with_name("libnvidia-ml.so.1")
        if not library.exists():
            shutil.copyfile(self._library_folder / library.name, library)
        return {"LD_LIBRARY_PATH": str(self._path.parent)}

    def gpu(self, index: int = 0) -> Gpu:
        """The model's constants and switches of one GPU."""
        found: Gpu = self.state.gpu[index]
        return found

    def uuid(self, index: int = 0) -> str:
        """Its UUID."""
        return f"GPU-00000000-0000-0000-0000-{index:012d}"

    def now_s(self) -> float:
        """Model time."""
        return (time.monotonic_ns() - self.state.t0_ns) / 1e9 * self.state.scale

    def energy_j(self, index: int, from_ns: int, to_ns: int) -> float:
        """The model's own integral between two moments of the monotonic clock."""
        begin: float = self._library.stub_energy_j(index, from_ns)
        end: float = self._library.stub_energy_j(index, to_ns)
        return end - begin
