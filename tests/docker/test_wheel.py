"""The wheel, installed outside the checkout, does what the checkout does: data, runner and pages are inside.

Its dependencies are those of the development environment, lent by a path file: nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
TIMEOUT_S = 120
Say = Callable[..., str]

CAMPAIGN = """
name: replayed
preset: quick-test
model: "random:{vocab_size: 1000}"
backend: replay
workload: {dataset: random, random: {input_len: 8}, prompts: 4, max_new_tokens: 4}
sweep: {workload.load.batch_size: [1, 2]}
cycles: 2
"""


def run(*words: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive, as a package index would have it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=REPO)
    (archive,) = folder.glob("*.tar.gz")
    run("tar", "-xf", archive, cwd=folder)
    source = folder / archive.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is no checkout."""
    return tmp_path_factory.mktemp("installed")


@pytest.fixture(scope="module")
def lemctl(wheel: Path, installed: Path) -> Iterator[Say]:
    """The installed command, called from there."""
    folder = installed
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    site = Path(
        run(
            folder / "venv/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
        ).strip()
    )
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--python",
        folder / "venv/bin/python",
    )
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # Only the folder itself: path files inside it, such as the checkout's editable one, are not followed.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEM_", "PYTHON"))}
    env = kept | {
        "LEM_HOME": str(folder / "home"),
        "LEM_LOCK_DIR": str(folder / "locks"),
        "LEM_EXECUTOR": "local",
        "LEM_MIN_FREE_DISK_MB": "0",
    }
    program = folder / "venv/bin/lemctl"
    yield lambda *words, **more: run(program, *words, cwd=folder, env={**env, **more})
    subprocess.run([program, "daemon", "stop"], env=env, check=False, capture_output=True, timeout=TIMEOUT_S)


def data_of(lemctl: Say) -> Path:
    checks = {check["name"]: check for check in json.loads(lemctl("doctor", "--json"))["checks"]}
    assert checks["installation"]["result"] == "OK"
    folder = Path(checks["installation"]["detail"].rpartition(" in ")[2])
    assert REPO not in folder.parents
    return folder


def test_the_wheel_holds_what_runs_need_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = (
        "compose.yaml",
        "compose.gpu.yaml",
        "campaigns/demo.yaml",
        "images/vllm/Dockerfile",
        "docs/troubleshooting.md",
    )
    assert {f"lemctl/data/{name}" for name in data} | {"lem_runner/__main__.py", "lemctl/store/schema.sql"} <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/")) or "__pycache__" in name]
    assert wheel.stat().st_size < 2_000_000


def test_the_host_needs_no_engine_and_no_plots(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needed = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", archive.read(metadata).decode(), re.MULTILINE)
    assert "typer" in needed
    heavy = {"torch", "transformers", "vllm", "tensorrt-llm", "altair", "pyarrow", "codecarbon", "mkdocs", "numpy"}
    assert heavy.isdisjoint(needed)


def test_the_installed_command_names_its_commit(lemctl: Say) -> None:
    commit = run("git", "rev-parse", "HEAD", cwd=REPO).strip()
    assert re.fullmatch(rf"lemctl \S+ \({commit[:7]}(, modified)?\)\n", lemctl("--version"))


def test_its_schema_images_and_campaigns_are_those_of_the_checkout(lemctl: Say) -> None:
    assert json.loads(lemctl("config", "schema"))["properties"]["cycles"]
    for backend in ("pytorch", "vllm", "tensorrt", "replay"):
        assert backend in lemctl("images", "list")
    data = data_of(lemctl)
    assert (data / "docs" / "troubleshooting.md").read_text() == (REPO / "docs/troubleshooting.md").read_text()
    assert "4 runs" in lemctl("campaign", "plan", str(data / "campaigns" / "demo.yaml"))


def test_a_campaign_runs_from_it_to_its_report(lemctl: Say, tmp_path: Path) -> None:
    file = tmp_path / "replayed.yaml"
    file.write_text(CAMPAIGN)
    lemctl("campaign", "start", str(file), "--prefetch", "--wait")
    assert lemctl("report", "replayed").count("2 VALID") == 2
    environment = json.loads(lemctl("results", "environment", "1", "--json"))
    assert run("git", "rev-parse", "HEAD", cwd=REPO).strip() in json.dumps(environment)


def test_a_rehearsal_from_it_has_a_page_with_its_figures(lemctl: Say, installed: Path, tmp_path: Path) -> None:
    """The page's own scripts and styles come from the wheel, the drawing library from the packages lent."""
    file = tmp_path / "rehearsed.yaml"
    file.write_text(CAMPAIGN.replace("replayed", "rehearsed"))
    assert "finished, 4 done" in lemctl("campaign", "start", str(file), "--simulate")
    simulated = installed / "home" / "simulated"
    page = tmp_path / "rehearsed.html"
    lemctl("--home", str(simulated), "report", "rehearsed", "--html", "-o", str(page))
    text = page.read_text("utf-8")
    assert "SIMULATED" in text
    assert str(REPO) not in text
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    figures = json.loads(lemctl("--home", str(simulated), "report", "rehearsed", "--json"))
    assert [cell["experiment"] for cell in data["cells"]] == [cell["experiment"] for cell in figures["experiments"]]
    assert [cell["ok"] for cell in data["cells"]] == [2, 2]


@pytest.mark.docker
def test_a_campaign_runs_from_it_in_a_container(
    lemctl: Say, tmp_path: Path, small_image: str, request: pytest.FixtureRequest
) -> None:
    """With the compose file, the catalogue and the runner of the wheel."""
    host = {
        "LEM_HOME": str(tmp_path / "home"),
        "LEM_LOCK_DIR": str(tmp_path / "locks"),
        "LEM_IMAGE_REPLAY": small_image,
    }
    file = tmp_path / "replayed.yaml"
    file.write_text(CAMPAIGN)
    request.addfinalizer(lambda: lemctl("daemon", "stop", **host))
    lemctl("campaign", "start", str(file), "--prefetch", "--wait", "--executor", "docker", **host)
    assert lemctl("report", "replayed", **host).count("2 VALID") == 2
    assert "executor docker" in lemctl("results", "show", "1", **host)
