"""The table of faults is true: each of its tests exists, and the page is what the table says."""

from __future__ import annotations

import ast

import pytest
import table


@pytest.mark.parametrize("name", sorted(set(table.tests())))
def test_every_fault_has_its_test(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((table.ROOT / file).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_page_is_not_stale() -> None:
    assert table.PAGE.read_text() == table.page(), "run `python tests/faults/table.py`"
