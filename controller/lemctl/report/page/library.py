"""What the page draws with: the drawing library as one script, and our specifications. Making them takes seconds, so it
begins at once, in a thread; the script is the same for one version of the library and is kept in the state folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from lemctl.errors import PreflightRefused

MISSING = "the HTML report needs altair and vl-convert; install them with `pip install 'lemctl[report]'`"


class Drawing(NamedTuple):
    """The drawing library's JavaScript, and every plot's specification by name."""

    bundle: str
    specs: dict[str, Any]


class Library:
    """Begins to make a `Drawing`. Raises `PreflightRefused` without the packages that it needs."""

    def __init__(self, kept_in: Path | None = None) -> None:
        """`kept_in` is a folder for the script; None, or one that cannot be written: it is made anew each time."""
        try:
            import vl_convert  # noqa: F401 - is it there?
        except ImportError as error:
            raise PreflightRefused(f"{MISSING} (missing: {error.name})") from None
        if find_spec("altair") is None:  # its import takes long
            raise PreflightRefused(f"{MISSING} (missing: altair)")
        pool = ThreadPoolExecutor(1)
        self._drawing: Future[Drawing] = pool.submit(_make, kept_in)
        pool.shutdown(wait=False)

    def script(self) -> str:
        """The library, ready for a script element."""
        # What would end the element stands in strings alone; escaped, they are the same strings.
        return self._drawing.result().bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")

    def specs(self) -> dict[str, Any]:
        """Every plot by name."""
        return self._drawing.result().specs


def _make(kept_in: Path | None) -> Drawing:
    from lemctl.report.plots.specs import SPECS

    bundle = kept_bundle(kept_in)
    return Drawing(bundle, {name: make() for name, make in SPECS.items()})


def vega_lite_version() -> str:
    """The version of Vega-Lite that our specifications are written in, as the library counts."""
    import altair
    import vl_convert

    major_minor = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    known: list[str] = vl_convert.get_vegalite_versions()
    return major_minor if major_minor in known else known[-1]


def kept_bundle(folder: Path | None) -> str:
    """The library's script, from the folder where it is there and whole, else made and kept there."""
    import vl_convert

    vega_lite = vega_lite_version()
    kept = None if folder is None else folder / f"vl-convert-{version('vl-convert-python')}-vega-lite-{vega_lite}.js"
    if kept is not None and (found := _read(kept)) is not None:
        return found
    # Its types ask for a snippet, its documentation and its code do not.
    made: str = vl_convert.javascript_bundle(vl_version=vega_lite)  # type: ignore[call-arg]
    if kept is not None:
        _keep(kept, made.encode())
    return made


def _read(kept: Path) -> str | None:
    """What was kept, if it is what its first line, a digest, says."""
    try:
        digest, _, text = kept.read_bytes().partition(b"\n")
    except OSError:
        return None
    return text.decode() if digest == _digest(text) else None


def _keep(kept: Path, text: bytes) -> None:
    """Best effort: a folder that takes nothing costs seconds at the next report, no more."""
    try:
        kept.parent.mkdir(exist_ok=True, mode=0o700)
        fd, partial = tempfile.mkstemp(dir=kept.parent, prefix=".partial-")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(_digest(text) + b"\n" + text)
            Path(partial).rename(kept)
        except BaseException:
            Path(partial).unlink()
            raise
    except OSError:
        return


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
