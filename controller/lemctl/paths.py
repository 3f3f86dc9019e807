"""Where things lie: one state folder, known names in it, and the data files that travel with the package."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The state folder, 0700. Everything that lemctl keeps is under it."""

    root: Path

    @property
    def database(self) -> Path:
        """The one SQLite file."""
        return self.root / "lem.db"

    @property
    def sessions(self) -> Path:
        """One folder per runner process; mounted into the containers."""
        return self.root / "sessions"

    @property
    def prompts(self) -> Path:
        """Prepared prompt files, by key."""
        return self.root / "prompts"

    @property
    def runner(self) -> Path:
        """Copies of the runner, by hash, mounted read-only."""
        return self.root / "runner"

    @property
    def logs(self) -> Path:
        """The daemon's own logs."""
        return self.root / "logs"

    @property
    def backups(self) -> Path:
        """Copies of the database."""
        return self.root / "backups"

    @property
    def notify(self) -> Path:
        """Files of addresses for notifications, each readable for us alone."""
        return self.root / "notify"

    @property
    def drawing(self) -> Path:
        """The script that reports draw with, by version; made where it is missing."""
        return self.root / "drawing"

    @property
    def ballast(self) -> Path:
        """Space that is given up when the disk is full."""
        return self.root / "ballast"

    @property
    def daemon_lock(self) -> Path:
        """Held by the daemon as long as it lives."""
        return self.root / "daemon.lock"

    @property
    def hash(self) -> str:
        """Names this state folder in container labels and projects."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:8]

    def create(self) -> None:
        """Make the folders. The root is 0700: nobody else gets in from the host. What is mounted into containers is
        open below it, because a container's user need not be ours."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)
        for folder in (self.logs, self.backups, self.notify):
            folder.mkdir(exist_ok=True, mode=0o700)
        for folder, mode in ((self.sessions, 0o711), (self.prompts, 0o755), (self.runner, 0o755)):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)


def default_home() -> Path:
    """`$LEM_HOME`, else the platform's user data folder."""
    if given := os.environ.get("LEM_HOME"):
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("lemctl"))


def data_folder() -> Path:
    """With `compose.yaml`, `images`, `campaigns` and `docs`: in the wheel `lemctl/data`, else the checkout."""
    installed = Path(__file__).parent / "data"
    return installed if installed.is_dir() else Path(__file__).parents[2]


def runner_source() -> Path:
    """The installed `lem_runner` package."""
    import lem_runner

    return Path(lem_runner.__file__).parent


def built_from() -> tuple[str, bool] | None:
    """The commit that this package was built from and whether files differed from it; None in a checkout, and where the
    build did not know."""
    try:
        commit, *more = (data_folder() / "COMMIT").read_text("utf-8").split()
    except (OSError, ValueError):
        return None
    return commit, "modified" in more
