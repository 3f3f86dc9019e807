"""Adapters and drafting models that engine parameters name: looked for before the night, handed over as folders."""

from __future__ import annotations

from pathlib import Path

from lemctl.engines.folders import folders_named, is_inside, with_folders
from lemctl.engines.prepared import missing
from night import Night, campaign_text

ENGINE = {"adapter": "path:my-lora", "dtype": "auto", "deep": {"model": "path:draft", "n": [1, "path:third"]}}


def test_folders_are_found_and_replaced_wherever_they_stand() -> None:
    assert list(folders_named(ENGINE)) == ["my-lora", "draft", "third"]
    placed = with_folders(ENGINE, lambda name: f"/lem/models/{name}")
    assert placed["adapter"] == "/lem/models/my-lora"
    assert placed["deep"] == {"model": "/lem/models/draft", "n": [1, "/lem/models/third"]}
    assert placed["dtype"] == "auto"


def test_a_name_stays_in_the_model_folder() -> None:
    assert is_inside("org/lora")
    assert not any(is_inside(name) for name in ("", "/etc", "../lora", "a/../../b"))


def test_a_folder_that_is_not_there_is_missing_before_the_night(tmp_path: Path) -> None:
    night = Night(tmp_path)
    plan = night.plan(
        campaign_text()
        .replace("replay: {engine", "pytorch: {engine")
        .replace("backend: replay", "backend: pytorch")
        .replace("decode_ms_per_token: 1.0", 'adapter: "path:my-lora"')
        .replace('"random:{vocab_size: 1000}"', '"random:{model_type: llama, vocab_size: 1000}"')
    )
    gaps = [gap for gap in missing(plan, night.settings, "local") if gap.what == "model"]
    assert [gap.name.partition(" ")[0] for gap in gaps] == ["path:my-lora"]
    assert (gaps[0].fix or "").startswith("cp -r")
    (night.settings.models / "my-lora").mkdir(parents=True)
    assert not [gap for gap in missing(plan, night.settings, "local") if gap.what == "model"]
