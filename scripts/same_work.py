"""Fail unless every pair of backends in a report did provably the same work.

`lemctl report --json NAME | python scripts/same_work.py`

No difference, and greedy texts that agree for at least 98 % of the prompts where they were judged.
"""

from __future__ import annotations

import json
import sys
from typing import Any

LEAST_SHARE = 0.98
EXIT_DIFFERENT = 3


def doubts(report: dict[str, Any]) -> list[str]:
    """Why the work is not proven to be the same, a line for each pair; none where it is."""
    pairs = report["comparisons"]
    found = [] if pairs else ["no pair of backends was compared"]
    for pair in pairs:
        texts = pair["texts"]
        setting = ", ".join(f"{key}={value}" for key, value in pair["setting"].items())
        name = f"{pair['second']['name']} against {pair['first']['name']} {setting}".rstrip()
        if pair["differences"]:
            found.append(f"{name}: {'; '.join(pair['differences'])}")
        elif not texts or not texts["judged"] or not texts["compared"]:
            found.append(f"{name}: no texts were judged")
        elif texts["share"] < LEAST_SHARE:
            found.append(f"{name}: {texts['agreed']} of {texts['compared']} texts agree")
    return found


def main() -> int:
    """Read a report from standard input; 3 where anything is in doubt."""
    found = doubts(json.load(sys.stdin))
    print("\n".join(found) or "the same work, proven for every pair of backends")
    return EXIT_DIFFERENT if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
