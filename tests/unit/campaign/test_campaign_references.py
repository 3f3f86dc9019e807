from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from lemctl.campaign.references import dataset_reference, model_name, model_reference


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("hf:org/name", {"kind": "hf", "name": "org/name", "revision": None, "config": None}),
        ("hf:gpt2@v1.0", {"kind": "hf", "name": "gpt2", "revision": "v1.0", "config": None}),
        ("path:tiny", {"kind": "path", "name": "tiny", "revision": None, "config": None}),
        ("path:not/there", {"kind": "path", "name": "not/there", "revision": None, "config": None}),
        (
            "random:{model_type: gpt2, n_layer: 2}",
            {"kind": "random", "name": None, "revision": None, "config": {"model_type": "gpt2", "n_layer": 2}},
        ),
        (
            {"random": {"hidden_size": 8}},
            {"kind": "random", "name": None, "revision": None, "config": {"hidden_size": 8, "model_type": "llama"}},
        ),
    ],
)
def test_a_model_is_named_by_hub_folder_or_shape(host: Path, written: Any, expected: dict[str, Any]) -> None:
    assert model_reference(written, [host / "models"]) == expected


@pytest.mark.parametrize(
    "written",
    ["org/name", "hf:", "hf:a b", "hf:../x", "hf:a/b/c", "hf:a/b@", "hf:a/b@..", "random:", "random:[1]",
     "random:{a: ", "random:{}", "random:{model_type: 3}", "random:{hidden_size:8}", {"random": 3}, {"hf": "a"}, 3, "",
     "path:", "ftp:x"],
)  # fmt: skip
def test_what_names_no_model_is_refused(host: Path, written: Any) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        model_reference(written, [host / "models"])
    assert "\n" not in str(caught.value)


ESCAPES = ["../secret.jsonl", "/etc/passwd", "sub/../../secret.jsonl", "link.jsonl", "..", ".", "", "a\0b", "~/x",
           "sub//x", "C:\\x", ".hidden", "sub/./x"]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_a_data_set_cannot_lie_outside_its_folder(host: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"name|leads out"):
        dataset_reference(f"file:{name}", [host / "datasets"], {})


@pytest.mark.parametrize("name", [*ESCAPES[:3], "link/secret.jsonl", "link", "..", "/"])
def test_a_model_cannot_lie_outside_its_folder(host: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"name|leads out"):
        model_reference(f"path:{name}", [host / "models"])


def test_a_link_that_stays_inside_is_followed(host: Path) -> None:
    (host / "datasets" / "alias.jsonl").symlink_to(host / "datasets" / "questions.jsonl")
    found = dataset_reference("file:alias.jsonl", [host / "datasets"], {})
    assert found["sha256"] == hashlib.sha256((host / "datasets" / "questions.jsonl").read_bytes()).hexdigest()


def test_a_data_set_is_named_by_its_content(host: Path) -> None:
    before = dataset_reference("file:questions.jsonl", [host / "datasets"], {})
    (host / "datasets" / "questions.jsonl").write_text('{"prompt": "Else?"}\n')
    assert dataset_reference("file:questions.jsonl", [host / "datasets"], {})["sha256"] != before["sha256"]


def test_the_first_folder_that_has_a_data_set_wins(host: Path) -> None:
    other = host / "other"
    other.mkdir()
    (other / "questions.jsonl").write_text("{}")
    (other / "only.jsonl").write_text("{}")
    folders = [host / "datasets", other]
    own = hashlib.sha256((host / "datasets" / "questions.jsonl").read_bytes()).hexdigest()
    assert dataset_reference("file:questions.jsonl", folders, {})["sha256"] == own
    assert dataset_reference("file:only.jsonl", folders, {})["name"] == "only.jsonl"


def test_a_data_set_that_is_not_there_is_refused_with_the_folders(host: Path) -> None:
    with pytest.raises(ValueError, match=rf"no file 'nope.jsonl' in {host / 'datasets'}"):
        dataset_reference("file:nope.jsonl", [host / "datasets"], {})
    with pytest.raises(ValueError, match="no data-set folder is configured"):
        dataset_reference("file:nope.jsonl", [], {})


def test_different_shapes_have_different_names() -> None:
    names = {model_name(model_reference({"random": {"hidden_size": size}}, [])) for size in (8, 16)}
    assert len(names) == 2
    assert all(name.startswith("random:llama-") for name in names)
    assert model_name(model_reference("hf:a/b@r", [])) == "hf:a/b@r"
