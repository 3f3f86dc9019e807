"""The script that reports draw with: made once, kept, and never believed where it is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from lemctl.report.page.library import kept_bundle


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Versions that a script was made for; making one takes seconds."""
    import vl_convert

    versions: list[str] = []

    def make(vl_version: str) -> str:
        versions.append(vl_version)
        return f"// Vega-Lite {vl_version} \u2013\r\ndraw();\n"

    monkeypatch.setattr(vl_convert, "javascript_bundle", make)
    return versions


def test_it_is_made_once_and_comes_back_to_the_letter(made: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "drawing"
    first = kept_bundle(folder)
    assert kept_bundle(folder) == first
    assert len(made) == 1
    (file,) = folder.iterdir()
    assert file.name.endswith(f"-vega-lite-{made[0]}.js")


@pytest.mark.parametrize("spoilt", [b"", b"draw();", b"\xff\xfe"])
def test_one_that_is_not_whole_is_made_anew(made: list[str], tmp_path: Path, spoilt: bytes) -> None:
    first = kept_bundle(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:70] + spoilt)
    assert kept_bundle(tmp_path) == first
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == [file]


def test_another_version_of_the_library_makes_its_own(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_bundle(tmp_path)
    monkeypatch.setattr("lemctl.report.page.library.version", lambda _name: "999.0")
    kept_bundle(tmp_path)
    assert len(made) == len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("folder", [None, "no/such/home/drawing"])
def test_without_a_place_it_is_made_each_time(made: list[str], tmp_path: Path, folder: str | None) -> None:
    place = None if folder is None else tmp_path / folder
    assert kept_bundle(place) == kept_bundle(place)
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == []
