"""The rules of `mkdocs.yml` on small pages of our own: one link that leads nowhere ends the build.

Built with the words of `make docs-site`: mkdocs counts no warnings, and so finds nothing strictly, where it is
`--quiet`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
TIMEOUT_S = 120


def build(folder: Path, link: str, *, in_navigation: str = "second.md") -> subprocess.CompletedProcess[str]:
    """Build a site of two pages, the first of which has the link, as `make docs-site` builds ours."""
    docs = folder / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# First\n\n## A part\n\n{link}\n")
    (docs / "second.md").write_text("# Second\n\n## Another part\n\nWords.\n")
    # Everything else is inherited; without the hook, no picture is made.
    (folder / "mkdocs.yml").write_text(
        f"INHERIT: {REPO / 'mkdocs.yml'}\ndocs_dir: {docs}\nsite_dir: {folder / 'site'}\nhooks: []\n"
        f"nav: [{{First: index.md}}, {{Second: {in_navigation}}}]\n"
    )
    (recipe,) = [line for line in (REPO / "Makefile").read_text("utf-8").splitlines() if "-m mkdocs build" in line]
    words = recipe.partition("-m mkdocs ")[2].split()
    command = [sys.executable, "-m", "mkdocs", *words, "--config-file", str(folder / "mkdocs.yml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize(
    "link", ["[page](second.md)", "[part](second.md#another-part)", "[own part](#a-part)", "<https://example.org/>"]
)
def test_links_that_lead_somewhere_are_taken(link: str, tmp_path: Path) -> None:
    done = build(tmp_path, link)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "second.html").exists()


@pytest.mark.parametrize(
    ("link", "named"),
    [
        ("[page](nowhere.md)", "nowhere.md"),
        ("[folder](../nowhere/index.md)", "nowhere/index.md"),
        ("[part](second.md#nowhere)", "#nowhere"),
        ("[own part](#nowhere)", "#nowhere"),
        ("[absolute](/second.html)", "/second.html"),
        ("![picture](nowhere.png)", "nowhere.png"),
    ],
)
def test_a_link_that_leads_nowhere_ends_the_build_and_is_named(link: str, named: str, tmp_path: Path) -> None:
    done = build(tmp_path, link)
    assert done.returncode == 1
    assert named in done.stderr
    assert "index.md" in done.stderr


def test_a_page_that_the_navigation_lacks_or_invents_ends_the_build(tmp_path: Path) -> None:
    done = build(tmp_path, "", in_navigation="third.md")
    assert done.returncode == 1
    assert "third.md" in done.stderr
    assert "second.md" in done.stderr
