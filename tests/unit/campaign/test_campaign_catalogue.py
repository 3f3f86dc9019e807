from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lemctl.campaign.catalogue import Catalogue, load_catalogue


@pytest.fixture
def vllm(host: Path) -> Catalogue:
    found = load_catalogue(host / "images", "vllm")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpu_memory_utilization", 0.9),
        ("gpu_memory_utilization", 1),
        ("max_num_seqs", 4),
        ("max_num_seqs", None),
        ("mode", "anything of a type that is not understood"),
        ("limits", [1, 2]),
        ("limits", 3),
    ],
)
def test_values_of_the_written_type_are_accepted(vllm: Catalogue, name: str, value: Any) -> None:
    assert vllm.mistake("engine", name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "gpu_memory_utilisation",
            0.9,
            "vllm 1.2.3 has no engine parameter 'gpu_memory_utilisation'; did you mean gpu_me",
        ),
        ("gpu_memory_utilization", "0.9", "must be a number"),
        ("gpu_memory_utilization", True, "must be a number"),
        ("gpu_memory_utilization", 1.5, "at most 1"),
        ("gpu_memory_utilization", -0.5, "at least 0"),
        ("gpu_memory_utilization", None, "must have a value"),
        ("max_num_seqs", 1.5, "must be a whole number"),
        ("max_num_seqs", False, "must be a whole number"),
        ("limits", "x", "must be a whole number or a list"),
    ],
)
def test_a_wrong_value_is_named(vllm: Catalogue, name: str, value: Any, said: str) -> None:
    assert said in (vllm.mistake("engine", name, value) or "")


def test_choices_are_listed_with_the_nearest(host: Path) -> None:
    pytorch = load_catalogue(host / "images", "pytorch")
    assert pytorch is not None
    assert pytorch.mistake("engine", "attn_implementation", "sdpa") is None
    assert pytorch.mistake("engine", "attn_implementation", "spda") == (
        "found 'spda'; allowed: eager, sdpa; did you mean sdpa?"
    )


def test_engine_and_sampling_parameters_are_kept_apart(host: Path) -> None:
    pytorch = load_catalogue(host / "images", "pytorch")
    assert pytorch is not None
    assert pytorch.mistake("sampling", "num_beams", 2) is None
    assert pytorch.mistake("engine", "num_beams", 2) is not None


def test_a_catalogue_that_is_not_there_is_none_and_a_broken_one_is_said(host: Path) -> None:
    assert load_catalogue(host / "images", "nothing") is None
    (host / "images" / "vllm" / "params.json").write_text('{"parameters": [{}]}')
    with pytest.raises(ValueError, match="cannot be read"):
        load_catalogue(host / "images", "vllm")


IMAGES = Path(__file__).parents[3] / "images"


@pytest.mark.parametrize("backend", sorted(path.parent.name for path in IMAGES.glob("*/params.json")))
def test_every_default_of_a_committed_catalogue_is_accepted(backend: str) -> None:
    catalogue = load_catalogue(IMAGES, backend)
    assert catalogue is not None
    wrong = {
        name: catalogue.mistake(group, name, parameter.default)
        for (group, name), parameter in catalogue.parameters.items()
        if not parameter.refused and catalogue.mistake(group, name, parameter.default)
    }
    assert not wrong
