from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel, Field

from lemctl.campaign.docs import json_schema, render
from lemctl.campaign.file import loads
from lemctl.campaign.presets import PRESETS
from lemctl.campaign.schema import BACKENDS, Campaign, Scoped
from lemctl.campaign.values import experiment_keys
from lemctl.errors import CampaignFileError

#: What stands in a sweep beside dotted keys, with an example.
SWEEPS = {"zip": "{workload.seed: [1, 2]}", "groups": "[{workload.seed: [1, 2]}, {workload.prompts: [1]}]"}
SHORTEST = """
name: shortest
model: {random: {vocab_size: 300}}
backend: replay
workload: {dataset: random, random: {input_len: 1}}
"""


def keys_of(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """Every dotted key that a JSON schema of pydantic allows: of mappings in mappings, in lists and in unions."""
    if "$ref" in schema:
        return keys_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()), schema.get("items", {})]
    found = {key for part in parts if part for key in keys_of(part, definitions)}
    for name, inner in schema.get("properties", {}).items():
        found |= {name} | {f"{name}.{key}" for key in keys_of(inner, definitions)}
    return found


def every_key(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema(by_alias=True)
    return keys_of(schema, schema.get("$defs", {}))


def rows() -> dict[str, list[str]]:
    """Key -> value, default and meaning, as the table has them."""
    table = render().partition("## Keys")[2].partition("\n## ")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in cells}


def test_the_walk_sees_keys_in_lists_and_unions() -> None:
    class Inner(BaseModel):
        deep: int

    class Other(BaseModel):
        else_: int = Field(alias="else")

    class Outer(BaseModel):
        plain: Inner
        listed: list[Inner] | None = None
        either: int | Inner | list[Other] = 1

    nested = {"plain.deep", "listed.deep", "either.deep", "either.else"}
    assert every_key(Outer) == {"plain", "listed", "either"} | nested


def test_the_page_has_every_key_at_every_depth_with_its_value_and_meaning() -> None:
    found, wanted = rows(), every_key(Campaign)
    assert {"hours.days", "cycles.until.half_width", "workload.random.input_len", "notify.on"} <= wanted
    assert wanted - set(found) == set()
    free = {"model.random", *(f"sweep.{word}" for word in SWEEPS)}
    free |= {f"BACKEND.{key}.NAME" for key in every_key(Scoped)}
    assert set(found) - wanted == free
    assert [key for key, (value, _, meaning) in found.items() if not value or not meaning] == []
    assert set(experiment_keys()) <= wanted


@pytest.mark.parametrize(("word", "value"), SWEEPS.items())
def test_what_the_page_says_of_a_sweep_beside_keys_is_read(word: str, value: str) -> None:
    assert list(loads(f"{SHORTEST}\nsweep: {{{word}: {value}}}").sweep.assignments())
    with pytest.raises(CampaignFileError):
        loads(f"{SHORTEST}\nsweep: {{{word}s: {value}}}")


def test_the_page_has_the_presets() -> None:
    page = render()
    assert all(name in page for name in PRESETS)


def test_the_page_is_the_same_each_time() -> None:
    assert render() == render()


def test_the_schema_is_json_and_knows_scoped_and_dotted_keys() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    assert set(BACKENDS) <= set(schema["properties"])
    assert schema["properties"]["seed"]["type"] == "integer"
    dotted = next(iter(schema["patternProperties"]))
    assert re.match(dotted, "workload.load.batch_size")
    assert not re.match(dotted, "wrkload.load")


def test_the_schema_writes_durations_as_the_file_does() -> None:
    assert json_schema()["$defs"]["Gate"]["properties"]["max"]["default"] == "300s"
