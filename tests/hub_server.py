"""A model hub for tests: a local HTTP server that answers the paths of the real one for data sets and models.

`/api/datasets/NAME[/revision/REVISION]` tells commit, files and card; `/datasets/NAME/resolve/REVISION/PATH` gives a
file, in ranges too, with the headers that the hub's client asks for. Of models: `/api/models/` and
no `/datasets`, and `/api/models/NAME/tree/REVISION` lists the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/revision/(.+))?")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
_FILE = re.compile(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """One data set or model: its files at each branch, and its card's head. `breaks_at`: the file whose
    download ends half way. `token`: what a caller must show; one that shows another is told which, as a careless
    server would."""

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    converted: dict[str, bytes] = field(default_factory=dict)
    gated: bool = False
    breaks_at: str | None = None
    token: str | None = None

    def branch(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(commit, files) of a branch or commit."""
        main, converted = commit_of(self.files), commit_of(self.converted)
        if revision in ("main", main):
            return main, self.files
        if self.converted and revision in ("refs/convert/parquet", converted):
            return converted, self.converted
        return None


def commit_of(files: dict[str, bytes]) -> str:
    """As a commit: it follows from what is in it."""
    return hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What the server holds, and what it was asked: (method, path, Range). `when_asked` is called with the path of
    each request for a file, before the answer."""

    repositories: dict[str, Repository]
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""
    when_asked: Callable[[str], None] = lambda path: None

    def paths(self, method: str = "GET") -> list[str]:
        """The paths of one method, in the order of asking."""
        return [path for kind, path, _ in self.asked if kind == method]


@contextmanager
def serving(hub: Hub, address: str = "127.0.0.1") -> Iterator[Hub]:
    """The hub on a free port of one of this machine's addresses, as long as the `with` lasts."""

    class Handler(_Handler):
        served = hub

    with ThreadingHTTPServer((address, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        hub.endpoint = f"http://{address}:{server.server_address[1]}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.served.asked.append((self.command, path, self.headers.get("Range")))
        if (found := _INFO.fullmatch(path)) is not None:
            self._info(found[1], found[2] or "main")
        elif (found := _TREE.fullmatch(path)) is not None:
            self._tree(found[1], found[2])
        elif (found := _FILE.fullmatch(path)) is not None:
            self._file(found[1], found[2], found[3])
        else:
            self._refuse(404, "EntryNotFound")

    def _info(self, name: str, revision: str) -> None:
        repository = self.served.repositories.get(name)
        if repository is None:
            self._refuse(404, "RepoNotFound")
        elif self._shows_no_token(repository):
            self._refuse(403, "", f"nothing here for {self.headers.get('Authorization')}")
        elif (branch := repository.branch(revision)) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            commit, files = branch
            siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
            body = {"id": name, "sha": commit, "siblings": siblings, "cardData": repository.card, "private": False}
            self._send(json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _tree(self, name: str, revision: str) -> None:
        repository = self.served.repositories.get(name)
        if repository is None or (branch := repository.branch(revision)) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha256(content).hexdigest()[:40]}
                for path, content in branch[1].items()
            ]
            self._send(json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _shows_no_token(self, repository: Repository) -> bool:
        return repository.token is not None and self.headers.get("Authorization") != f"Bearer {repository.token}"

    def _file(self, name: str, revision: str, path: str) -> None:
        self.served.when_asked(path)
        repository = self.served.repositories.get(name)
        branch = None if repository is None else repository.branch(revision)
        if repository is None or branch is None:
            self._refuse(404, "RepoNotFound")
        elif repository.gated or self._shows_no_token(repository):
            self._refuse(403, "GatedRepo")
        elif path not in branch[1]:
            self._refuse(404, "EntryNotFound")
        else:
            content = branch[1][path]
            etag = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": branch[0], "Accept-Ranges": "bytes"}
            self._send(content, headers, len(content) // 2 if path == repository.breaks_at else None)

    def _send(self, content: bytes, headers: dict[str, str], until: int | None = None) -> None:
        begin = 0
        if (ranged := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")) is not None:
            begin = int(ranged[1])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if begin else 200)
        for key, value in {**headers, "Content-Length": str(len(content) - begin)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[begin:until])
            if until is not None:
                self.close_connection = True

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message or code)
        self.send_header("Content-Length", "0")
        self.end_headers()
