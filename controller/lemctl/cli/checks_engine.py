"""What `lemctl doctor` looks at where engines run: container engine, Compose, images, local interpreters, models."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator

from lemctl.cli.finding import Check
from lemctl.engines.backends import BACKENDS
from lemctl.engines.prepared import missing_images
from lemctl.lines import plural
from lemctl.settings import Settings

#: An engine needs this to be imported: what it is checked for.
ENGINE_MODULES = {"tensorrt": ("tensorrt_llm",), "pytorch": ("torch", "transformers"), "vllm": ("vllm",)}
PROBE_TIMEOUT_S = 60.0


def engine() -> Iterator[Check]:
    """The container engine and Compose: needed."""
    from lemctl.engines.containers import Containers
    from lemctl.engines.errors import ContainerFault

    try:
        facts = Containers().ping()
    except ContainerFault as fault:
        fix = "start the Docker engine, or use `--executor local`"
        if "permission denied" in fault.detail.lower():
            fix = "let your user use it (`sudo usermod -aG docker $USER`, then log in anew), or `--executor local`"
        yield Check("docker", False, fault.message, fix)
        return
    yield Check("docker", True, f"engine {facts.engine_version}")
    is_v2 = not facts.compose_version.startswith("1.")
    yield Check("compose", is_v2, facts.compose_version, "install Docker Compose v2 (the `docker compose` plugin)")
    detail = "containers outlive a restart of the engine" if facts.live_restore else "off: a restart ends running work"
    fix = 'put {"live-restore": true} into /etc/docker/daemon.json'
    yield Check("live-restore", facts.live_restore, detail, fix, is_needed=False)


def images() -> Iterator[Check]:
    """One image is enough for a campaign; `plan` says which one a campaign needs."""
    for name in BACKENDS:
        gaps = missing_images([name])
        found = gaps[0].name + ", not here" if gaps else BACKENDS[name].image_ref
        yield Check(f"image {name}", not gaps, found, (gaps[0].fix or "") if gaps else "", is_needed=False)


def interpreters(backends: Iterable[str] = tuple(BACKENDS), is_needed: bool = False) -> Iterator[Check]:
    """The Pythons of the local executor, and whether they have their engine. One is enough for a campaign."""
    for name in backends:
        row = BACKENDS[name]
        modules = ENGINE_MODULES.get(name, ())
        interpreter = row.local_interpreter
        absent = _absent_modules(interpreter, modules)
        variable = f"LEM_PYTHON_{name.upper()}"
        if absent is None:
            fix = f"export {variable}=/path/to/python"
            yield Check(f"engine {name}", False, f"{interpreter} does not run", fix, is_needed)
            continue
        detail = interpreter + (f": no {', '.join(absent)}" if absent else "")
        fix = f"pip install 'lemctl[{name}]', or export {variable}=/path/to/a/python/with/it"
        yield Check(f"engine {name}", not absent, detail, fix, is_needed)


def cautions() -> Iterator[Check]:
    """What a person should know of a backend before relying on it."""
    for name, row in BACKENDS.items():
        if row.caution:
            yield Check(f"caution {name}", False, row.caution, is_needed=False)


def models(settings: Settings) -> Check:
    """What the model folder holds; which one a campaign needs is said by `plan`."""
    folder = settings.models
    if not folder.is_dir():
        return Check("models", True, f"{folder} is not there yet; `lemctl images prefetch FILE` makes it")
    try:
        count = sum(1 for _ in folder.rglob("config.json"))
    except OSError as error:
        return Check("models", False, f"{folder}: {error.strerror}", f"chown -R $USER {folder}", is_needed=False)
    return Check("models", True, f"{plural(count, 'model')} in {folder}")


def _absent_modules(interpreter: str, modules: tuple[str, ...]) -> list[str] | None:
    """Which of the modules that Python lacks; None where it does not run."""
    program = "import importlib.util, sys; print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))"
    try:
        said = subprocess.run(
            [interpreter, "-c", program, *modules], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.split()
