"""Every parameter of every committed catalogue is accepted where it is described so, and refused with its reason.

That what is accepted also reaches the engine is shown here for TensorRT-LLM, on the stand-in; for the engines that are
installed in interpreters of their own by tests/engines/test_catalogue.py and test_vllm_catalogue.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lem_runner.failures import BadRequestError
from lem_runner.parameters import Group, Parameter, check, resolve, type_words
from lemctl.campaign.catalogue import Catalogue, load_catalogue
from parameter_values import not_taken, taken

TESTS = Path(__file__).parents[2]
IMAGES = TESTS.parent / "images"
BACKENDS = sorted(path.parent.name for path in IMAGES.glob("*/params.json"))


def rows(backend: str) -> tuple[Catalogue, list[tuple[str, Parameter]]]:
    """(group.name, parameter) of everything that is described, keys inside mappings included."""
    catalogue = load_catalogue(IMAGES, backend)
    assert catalogue is not None

    def walk() -> Iterator[tuple[str, Parameter]]:
        for parameter in catalogue.parameters.values():
            yield parameter.name, parameter
            for field in parameter.fields:
                yield f"{parameter.name}.{field.name}", field

    return catalogue, list(walk())


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_type_is_one_that_is_checked(backend: str) -> None:
    _, found = rows(backend)
    assert found
    for name, parameter in found:
        written = type_words(parameter.type)
        assert ("anything" in written) == (parameter.type == "any"), f"{name}: {parameter.type}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_value_that_is_tried_is_never_the_default(backend: str) -> None:
    """Else what is dropped on its way would be found where it should be."""
    _, found = rows(backend)
    for name, parameter in found:
        if not parameter.refused and parameter.choices != (parameter.default,):
            assert taken(parameter) != parameter.default, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_ends_accept_what_is_described_and_refuse_the_rest(backend: str) -> None:
    catalogue, found = rows(backend)
    for name, parameter in found:
        value = taken(parameter) if not parameter.refused else 1
        said = catalogue.mistake(parameter.group, name, value)
        assert said == (f"cannot be set: {parameter.refused}" if parameter.refused else None), name
        wrong = [] if parameter.refused else list(not_taken(parameter))
        for each in wrong:
            assert catalogue.mistake(parameter.group, name, each) is not None, f"{name}: {each!r}"
        if "." not in name:
            _check_in_the_runner(catalogue, parameter, value, wrong)


@pytest.mark.parametrize(
    ("backend", "group", "name", "value", "said"),
    [
        ("vllm", "engine", "ubatch_size", -5, "must be at least 0, found -5"),
        ("vllm", "engine", "prefill_context_parallel_size", 0, "must be at least 1, found 0"),
        ("vllm", "engine", "gpu_memory_utilization", 0, "must be above 0, found 0"),
        ("vllm", "engine", "watermark", 1.0, "must be below 1, found 1.0"),
        ("vllm", "engine", "watermark", 0.0, None),
        ("vllm", "sampling", "top_p", 0, "must be above 0, found 0"),
        ("vllm", "sampling", "top_p", 1, None),
        ("vllm", "sampling", "temperature", 2.5, "must be at most 2, found 2.5"),
        ("vllm", "sampling", "repetition_penalty", 0.0, "must be above 0, found 0.0"),
        ("pytorch", "sampling", "repetition_penalty", 0, "must be above 0, found 0"),
    ],
)
def test_a_number_that_the_engine_would_refuse_is_refused_on_the_host(
    backend: str, group: Group, name: str, value: float, said: str | None
) -> None:
    catalogue, _ = rows(backend)
    assert catalogue.mistake(group, name, value) == said


def _check_in_the_runner(catalogue: Catalogue, parameter: Parameter, value: Any, wrong: list[Any]) -> None:
    known = {row.name: row for row in catalogue.group(parameter.group)}
    beside = {name: values[0] for name, values in parameter.only_with}
    if not parameter.refused:
        assert resolve(known.values(), parameter.group, {**beside, parameter.name: value})[parameter.name] == value
    for each in [value] if parameter.refused else wrong:
        with pytest.raises(BadRequestError, match=parameter.name):
            check(known, parameter.group, {**beside, parameter.name: each})
    for name, values in parameter.only_with:
        other = next(choice for choice in known[name].choices or (False,) if choice not in values)
        with pytest.raises(BadRequestError, match="cannot be set" if parameter.refused else "only with"):
            check(known, parameter.group, {name: other, parameter.name: value})


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model folder, with the stand-in of TensorRT-LLM on the path."""
    monkeypatch.syspath_prepend(str(TESTS / "standin"))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 100, "eos_token_id": 2}))
    return tmp_path


def offered(group: str) -> list[Parameter]:
    catalogue, _ = rows("tensorrt")
    return [row for row in catalogue.group(group) if not row.refused and row.name != "backend"]


def single_values(parameter: Parameter) -> list[Any]:
    """One value, or for a mapping one for each of its keys, with what the key needs beside it."""
    if not parameter.fields:
        return [taken(parameter)]
    found = []
    for field in parameter.fields:
        if not field.refused:
            found.append({**{name: values[0] for name, values in field.only_with}, field.name: taken(field)})
    if any(field.name == "decoding_type" for field in parameter.fields):
        found = [{"decoding_type": "NGram", **value} for value in found]
    return found


@pytest.mark.parametrize("parameter", offered("engine"), ids=lambda row: row.name)
def test_an_engine_parameter_reaches_tensorrt(standin: Path, parameter: Parameter) -> None:
    from lem_runner.backends import tensorrt

    backend = dict(parameter.only_with).get("backend", ("pytorch",))[0]
    unset = tensorrt._as_json(getattr(tensorrt._make(backend, standin, {}).args, parameter.name))
    for value in single_values(parameter):
        has_others = parameter.choices != (unset,)
        assert not (has_others and _holds(unset, value)), "it would be found even if it were dropped"
        llm = tensorrt._make(backend, standin, {parameter.name: value})
        reached = tensorrt._as_json(getattr(llm.args, parameter.name))
        if isinstance(value, dict) and parameter.fields:
            value = {key: inner for key, inner in value.items() if key != "decoding_type"}
            assert _holds(reached, value)
        else:
            assert reached == value


def _holds(reached: Any, value: Any) -> bool:
    if isinstance(value, dict) and isinstance(reached, dict):
        return all(key in reached and _holds(reached[key], inner) for key, inner in value.items())
    return bool(reached == value)


@pytest.mark.parametrize("parameter", offered("sampling"), ids=lambda row: row.name)
def test_a_sampling_parameter_reaches_tensorrt(standin: Path, parameter: Parameter) -> None:
    from lem_runner.backends import Decoding, tensorrt

    engine = tensorrt.TensorRtEngine()
    value = taken(parameter)
    made = engine._sampling(Decoding(8, "fixed", {parameter.name: value}), seed=3)
    assert getattr(made, parameter.name) == value
    assert (made.max_tokens, made.ignore_eos, made.seed) == (8, True, 3)


def test_tensorrt_refuses_what_it_does_not_know_and_says_where(standin: Path) -> None:
    from lem_runner.backends import tensorrt

    with pytest.raises(BadRequestError, match=r"'kv_cache_config\.nonsense': Extra inputs"):
        tensorrt._make("pytorch", standin, {"kv_cache_config": {"nonsense": 1}})
    with pytest.raises(BadRequestError, match="'quant_config': Extra inputs"):
        tensorrt._make("pytorch", standin, {"quant_config": {}})
    with pytest.raises(TypeError, match="nonsense"):
        tensorrt.TensorRtEngine()._sampling(_decoding({"nonsense": 1}), seed=0)


def _decoding(sampling: dict[str, Any]) -> Any:
    from lem_runner.backends import Decoding

    return Decoding(8, "natural", sampling)
