"""A page opened in a browser, and what went wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY_MS = 60_000
#: What a page must never take for markup.
HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script> & \"quoted\" 'words' <!--"


@contextmanager
def opened(browser: Any, page: Path, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """The page when all of it is drawn, and what went wrong: complaints, dialogs, requests."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    tab, wrong = context.new_page(), list[str]()
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-ready=all]", timeout=READY_MS)
    yield tab, wrong
    context.close()
