"""A real container engine and a state folder to mount from. The image is the small base image, not an engine's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lemctl.engines.containers import Containers, ContainerSpec
from lemctl.engines.errors import EngineUnavailable

ROOT = Path(__file__).parents[2]
#: Inside the container: never root.
UID = os.getuid() or 65532
GID = os.getgid() or 65532
#: An interpreter with torch and transformers.
ENGINE_PYTHON = Path(os.environ.get("LEM_PYTHON_PYTORCH", str(ROOT / ".venv-pytorch" / "bin" / "python")))


@pytest.fixture(scope="session")
def engine() -> Containers:
    """The engine; its absence is a failure where the test run has made sure of one, else a reason to skip."""
    containers = Containers()
    try:
        containers.ping()
    except EngineUnavailable as error:
        if os.environ.get("LEM_TEST_NEEDS_DOCKER"):
            raise
        pytest.skip(f"{error}; `make engine` starts one")
    return containers


@pytest.fixture(scope="session")
def small_image(engine: Containers) -> str:
    """An image with little more than a Python."""
    script = [str(ROOT / "scripts" / "base-image.sh")]
    return subprocess.run(script, check=True, capture_output=True, text=True, timeout=240).stdout.strip()


def make_spec(root: Path, image: str, home_hash: str) -> ContainerSpec:
    """A spec of the replay service on fresh folders under `root`."""
    folders = {name: root / name for name in ("runner", "models", "prompts", "sessions")}
    for folder in folders.values():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    os.chown(folders["sessions"], UID, GID)
    env = {f"LEM_{name.upper()}_DIR": str(folder) for name, folder in folders.items()}
    env |= {"LEM_UID": str(UID), "LEM_GID": str(GID), "LEM_HOME_HASH": home_hash, "LEM_IMAGE_REPLAY": image}
    env |= {"LEM_SHM_SIZE": "64m"}
    return ContainerSpec(f"lem-{home_hash}-0", "replay", (ROOT / "compose.yaml",), env, home_hash)


@pytest.fixture
def spec(engine: Containers, small_image: str, tmp_path: Path) -> Iterator[ContainerSpec]:
    """A spec of its own for each test; whatever it leaves running is removed."""
    home_hash = f"test{os.getpid()}{abs(hash(tmp_path)) % 10**6}"
    yield make_spec(tmp_path, small_image, home_hash)
    engine.sweep(home_hash)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model, made on the spot."""
    if not ENGINE_PYTHON.exists():
        pytest.skip("no interpreter with torch; `make engine-venv` makes one")
    folder = tmp_path_factory.mktemp("models") / "tiny"
    maker = [str(ENGINE_PYTHON), str(ROOT / "scripts" / "make_tiny_model.py"), str(folder)]
    subprocess.run(maker, check=True, capture_output=True, timeout=120)
    return folder
