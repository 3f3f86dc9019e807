"""The table of NVML errors, and the facts of a GPU, against the real bindings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pynvml
import pytest

from lemctl.measure.gpu import TROUBLE_BY_ERROR, NvmlProbe
from lemctl.measure.readings import NvmlUnavailableError
from lemctl.measure.watch import SamplerProcess

if TYPE_CHECKING:
    from nvml_stub import NvmlStub


def test_every_error_in_the_table_exists_in_the_bindings() -> None:
    assert [name for name in TROUBLE_BY_ERROR if not hasattr(pynvml, name)] == []


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("NVML_ERROR_GPU_IS_LOST", "lost"),
        ("NVML_ERROR_RESET_REQUIRED", "lost"),
        ("NVML_ERROR_NOT_SUPPORTED", "unsupported"),
        ("NVML_ERROR_TIMEOUT", "unreadable"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "no_driver"),
    ],
)
def test_what_ends_an_attempt_and_what_only_leaves_a_gap(name: str, trouble: str) -> None:
    assert TROUBLE_BY_ERROR[name] == trouble


def test_a_host_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    with pytest.raises(NvmlUnavailableError, match="NVML does not start"):
        NvmlProbe()


def test_the_facts_name_the_board_its_limits_and_what_it_does_not_tell(host_with_gpus: Callable[..., NvmlStub]) -> None:
    stub = host_with_gpus(gpus=2)
    stub.gpu(1).mig = 1
    with SamplerProcess([stub.uuid(0), stub.uuid(1)], environment=stub.environment) as sampler:
        facts = sampler.facts[stub.uuid(0)]
        sliced = sampler.facts[stub.uuid(1)]
    assert (facts.index, facts.name, facts.vbios, facts.driver) == (0, "NVIDIA Model GPU", "00.01.02.03.04", "580.1")
    assert (facts.power_limit_mw, facts.power_limit_min_mw, facts.cuda_driver) == (700_000, 200_000, "13.0")
    assert (facts.ecc, facts.persistence, facts.mig) == (True, True, False)
    assert facts.missing == {}
    assert sliced.mig is True
    assert "MIG" in sliced.missing["energy"]
