"""The real hub library against a hub that is away, refuses, or never answers: one line, soon, and no half model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ENGINE_PYTHON = Path(
    os.environ.get("LEM_PYTHON_PYTORCH", str(Path(__file__).parents[2] / ".venv-pytorch" / "bin" / "python"))
)
RUNNER = Path(__file__).parents[2] / "runner"
TOKEN = "hf_TokenThatIsNeverPrinted"
#: The real prefetch, with less patience than its own half a minute.
PREFETCH = """
import sys
from lem_runner import hub
from lem_runner.__main__ import main
assert hub.TIMEOUT_S == 30
hub.TIMEOUT_S = 5.0
sys.exit(main(sys.argv[1:]))
"""

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not ENGINE_PYTHON.exists(), reason="no interpreter with huggingface_hub; `make engine-venv`"),
]


class Hub:
    """Answers every question with one status, or with nothing."""

    def __init__(self, status: int | None):
        over = self._over = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if status is None:
                    over.wait(120)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(params=["away", pytest.param("slow", marks=pytest.mark.slow), "broken", "refusing"])
def hub(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """(What is wrong with it, its address)."""
    if request.param == "away":
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        yield request.param, address
        return
    made = Hub({"slow": None, "broken": 500, "refusing": 401}[request.param])
    yield request.param, made.address
    made.close()


def test_a_hub_in_trouble_is_one_line_soon_and_leaves_no_model(hub: tuple[str, str], tmp_path: Path) -> None:
    _, address = hub
    models = tmp_path / "models"
    job = {
        "model": {"kind": "hf", "name": "org/model"}, "models_dir": str(models), "prompts_dir": str(tmp_path),
        "download": True,
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"PYTHONPATH": str(RUNNER), "HF_ENDPOINT": address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}
    began = time.monotonic()
    done = subprocess.run(
        [str(ENGINE_PYTHON), "-c", PREFETCH, "prefetch", str(tmp_path / "job.json")],
        capture_output=True, text=True, timeout=200, env={**clean, **own}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert time.monotonic() - began < 150
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("prefetch: ")]
    assert "org/model" in line
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert [p for p in models.rglob("*") if p.name == "config.json"] == []
    assert not (models / "org" / "model").exists()
