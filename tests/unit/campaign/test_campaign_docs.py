from __future__ import annotations

import json
import re

from lemctl.campaign.docs import json_schema, render
from lemctl.campaign.messages import section_at
from lemctl.campaign.presets import PRESETS
from lemctl.campaign.schema import BACKENDS, Campaign
from lemctl.campaign.values import experiment_keys


def test_the_page_has_every_key_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \|.*\| ([^|]+) \|$", render().partition("## Sweep")[0], re.MULTILINE))
    missing = [name for name in Campaign.model_fields if name not in rows]
    missing += [key for key in experiment_keys() if key not in rows]
    missing += [f"timeouts.{name}" for name in (section_at(Campaign, ["timeouts"]) or Campaign).model_fields]
    assert [key for key in missing if not rows.get(key, "").strip()] == []


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
