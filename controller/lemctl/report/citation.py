"""How results are cited: CITATION.cff, of the Citation File Format 1.2.0. Pure.

https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lemctl import __version__
from lemctl.errors import UsageMistake
from lemctl.report.document import Report

_ANONYMOUS = {"name": "anonymous"}


def read_author(text: str) -> Mapping[str, str]:
    """`Family, Given`, or the name of a person or body, as the format has it. Raises `UsageMistake` for no name."""
    family, comma, given = (part.strip() for part in text.partition(","))
    named = {"family-names": family, "given-names": given} if comma else {"name": family}
    found = {key: value for key, value in named.items() if value}
    if not found:
        raise UsageMistake(f"--author {text!r} holds no name; write 'Family, Given' or a name")
    return found


def citation(report: Report, authors: Sequence[str]) -> str:
    """The file's text; an author who is given twice is named once. Raises `UsageMistake`."""
    read = [read_author(author) for author in authors]
    people = [author for place, author in enumerate(read) if author not in read[:place]] or [_ANONYMOUS]
    return "\n".join(
        [
            "cff-version: 1.2.0",
            'message: "If you use these results, please cite them."',
            "type: dataset",
            f"title: {_quoted(f'Results of the campaign {report.campaign.label}')}",
            "authors:",
            *(line for author in people for line in _entry(author)),
            f"date-released: {report.campaign.created_utc[:10]}",
            "references:",
            "  - type: software",
            "    title: lemctl",
            f"    version: {_quoted(__version__)}",
            "    authors:",
            '      - name: "the lemctl maintainers"',
        ]
    )


def _entry(author: Mapping[str, str]) -> list[str]:
    return [
        f"  {'- ' if place == 0 else '  '}{key}: {_quoted(text)}" for place, (key, text) in enumerate(author.items())
    ]


def _quoted(text: str) -> str:
    """JSON strings are YAML strings, whatever is in them."""
    return json.dumps(text, ensure_ascii=False)
