"""A place that notifications can be sent to: an HTTP server on this machine that may refuse or hang."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Stands in every address of the letterbox, as a password would: it may turn up nowhere else.
SECRET = "s3cr3t-in-the-address"


class Letterbox:
    """What arrived, and how the next ones are treated."""

    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = []
        self.refuses = False
        self.hangs = False
        self.tries = 0
        box = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                box.tries += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                while box.hangs:
                    time.sleep(0.05)
                if not box.refuses:
                    box.letters.append(json.loads(body))
                self.send_response(500 if box.refuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """For Apprise."""
        return f"json://user:{SECRET}@127.0.0.1:{self._server.server_port}/{SECRET}/path"

    def open(self) -> None:
        """From now on it takes letters."""
        self._thread.start()

    def close(self) -> None:
        """No more."""
        self.hangs = False
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def letterbox() -> Iterator[Letterbox]:
    """An open one."""
    made = Letterbox()
    made.open()
    try:
        yield made
    finally:
        made.close()
