"""What belongs to the host, not to a campaign: executor, images, interpreters, folders.

Environment variables `LEM_*` win over `settings.yaml` in the state folder. A campaign file can set none of this.
Read by hand: pydantic-settings costs a tenth of a second of every command (docs/decisions/0004).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lemctl.errors import UsageMistake
from lemctl.paths import Home, data_folder, default_home

Executor = Literal["docker", "local"]


class Settings(BaseModel):
    """Host settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default_factory=default_home, description="State folder: database, sessions, prompts, logs.")
    executor: Executor = Field(
        "docker", description="How engines run: `docker` containers, or `local` child processes."
    )
    models_dir: Path | None = Field(None, description="Folder of models; default `models` in the state folder.")
    datasets_dir: Path | None = Field(
        None, description="Folder of prompt files that campaigns may name; default `datasets` in the state folder."
    )
    lock_dir: Path = Field(Path("/run/lock/lemctl"), description="Locks of GPUs, shared by all users of this host.")
    puid: int | None = Field(None, description="User id inside containers; default the caller's, 65532 for root.")
    pgid: int | None = Field(None, description="Group id inside containers; default the caller's, 65532 for root.")
    shm_size: str = Field("1g", description="Shared memory of a container.")
    container_memory: str | None = Field(None, description="Memory limit of a container, such as 16g; default none.")
    country: str | None = Field(
        None,
        pattern="^[A-Z]{3}$",
        description="Three-letter country code: turns codecarbon's estimate of CPU and memory on. Never looked up.",
    )
    region: str | None = Field(
        None, description="Region of the country, as codecarbon names it; only with `country`. Never looked up."
    )
    price_per_kwh: float | None = Field(None, ge=0, description="Price of a kWh: reports show the cost of GPU energy.")
    currency: str = Field("", description="Currency of `price_per_kwh`, such as EUR.")
    co2e_g_per_kwh: float | None = Field(None, ge=0, description="Grams of CO2e per kWh: reports show the CO2e.")
    pue: float = Field(1.0, ge=1, description="Power usage effectiveness of the site: scales cost and CO2e.")
    factors_source: str = Field("", description="Where price and CO2e factor are from; printed beside the figures.")
    max_runs: int = Field(200_000, ge=1, description="A campaign file that expands to more runs is refused.")
    retry_back_off_scale: float = Field(1.0, ge=0, description="Stretches the waits before retries; 0 is for tests.")
    min_free_disk_mb: int = Field(500, ge=0, description="Below this free space no new run starts.")
    ballast_mb: int = Field(
        64, ge=0, description="Kept on the state folder's disk, and given up to write the state when that disk is full."
    )
    prefetch_total_s: float = Field(
        86_400.0, gt=0, description="Longest time to fetch and prepare one model with its prompts."
    )
    prefetch_silence_s: float = Field(
        900.0, gt=0, description="Longest time in which a prefetch may make no progress; then it is ended."
    )
    metrics_listen: str | None = Field(
        None,
        pattern=r"^[^:\s]+:[0-9]{1,5}$",
        description="HOST:PORT on which the daemon serves Prometheus metrics, such as 127.0.0.1:9464; default nowhere.",
    )

    @property
    def paths(self) -> Home:
        """The state folder."""
        return Home(self.home.expanduser().absolute())

    @property
    def models(self) -> Path:
        """Folder of models."""
        return (self.models_dir or self.paths.root / "models").expanduser().absolute()

    @property
    def dataset_dirs(self) -> tuple[Path, ...]:
        """Folders in which `dataset: file:NAME` is looked for, in order."""
        own = (self.datasets_dir or self.paths.root / "datasets").expanduser().absolute()
        return own, data_folder() / "campaigns" / "prompts"


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process: overrides, then the environment, then the file, then the defaults.

    Raises `UsageMistake` that names the variable or the key. Other `LEM_*` variables (images and interpreters of the
    backends) are none of ours.
    """
    given = {**_from_file(default_home() / "settings.yaml"), **_from_environment(), **overrides}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "LEM_" + "_".join(str(part) for part in first["loc"]).upper()
        raise UsageMistake(f"{name}: {first['msg'].lower()} (found {first.get('input')!r})") from None


def _from_environment() -> dict[str, Any]:
    return {
        # An empty variable is one that is not set, as in a shell.
        name: value
        for name in Settings.model_fields
        if (value := os.environ.get(f"LEM_{name.upper()}"))
    }


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageMistake(f"{path}: cannot be read: {error}") from None
    if found is not None and not isinstance(found, dict):
        raise UsageMistake(f"{path}: must hold settings as `name: value`")
    for name in found or {}:
        if name not in Settings.model_fields:
            raise UsageMistake(f"{path}: unknown setting {name!r} (allowed: {', '.join(Settings.model_fields)})")
    return dict(found or {})
