"""Which GPUs this process would get, asked of the driver by a child.

TensorRT-LLM initialises CUDA itself, in processes of its own: a context made here first would take memory from it and
cannot be carried into them. So the question is put by a child that ends with its answer, and needs only the driver.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from lem_runner.failures import BadRequestError

#: Ampere: older ones are not supported. Source: the support matrix of TensorRT-LLM.
LEAST_CAPABILITY = (8, 0)
PROBE_TIMEOUT_S = 60.0

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR are 75 and 76 of the CUDA driver interface.
_PROBE = """
import ctypes, json, sys
def fail(text):
    print(json.dumps({"error": text})); sys.exit(0)
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    fail("the NVIDIA driver is not here (%s)" % error)
def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        fail("%s: CUDA error %d" % (name, code))
call("cuInit", 0)
count = ctypes.c_int()
call("cuDeviceGetCount", ctypes.byref(count))
found = []
for index in range(count.value):
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(128)
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDeviceGetName", name, 128, device)
    call("cuDeviceGetAttribute", ctypes.byref(major), 75, device)
    call("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)
    found.append([name.value.decode(), major.value, minor.value])
print(json.dumps({"devices": found}))
"""


@dataclass(frozen=True)
class Device:
    """One GPU by its name and compute capability."""

    name: str
    capability: tuple[int, int]


def require_devices(wanted: int) -> list[Device]:
    """The GPUs of this process. `BadRequestError` where there are fewer than `wanted`, or one is too old."""
    found = devices()
    least = ".".join(map(str, LEAST_CAPABILITY))
    if len(found) < wanted:
        raise BadRequestError(f"the parallel degrees need {wanted} GPUs, this process has {len(found)}")
    for device in found[:wanted]:
        if device.capability < LEAST_CAPABILITY:
            has = ".".join(map(str, device.capability))
            raise BadRequestError(f"TensorRT-LLM needs compute capability {least} or newer; {device.name} has {has}")
    return found


def devices() -> list[Device]:
    """Every GPU that the driver shows. `BadRequestError` where none can be asked."""
    try:
        said = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        )
        body = json.loads(said.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise BadRequestError(f"TensorRT-LLM needs an NVIDIA GPU: its driver did not answer ({error})") from error
    if "error" in body:
        raise BadRequestError(f"TensorRT-LLM needs an NVIDIA GPU: {body['error']}")
    return [Device(name, (major, minor)) for name, major, minor in body["devices"]]
