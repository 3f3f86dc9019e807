from __future__ import annotations

import pytest

from lemctl.campaign import yaml as strict
from lemctl.errors import CampaignFileError


def value(text: str) -> object:
    return strict.parse(f"key: {text}", "f.yaml").value["key"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("off", "off"),
        ("22:00", "22:00"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-3", -3),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("5.", 5.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'7'", "7"),
        ('"true"', "true"),
        ("[1, [2]]", [1, [2]]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_every_key_and_item_has_its_line() -> None:
    document = strict.parse("a: 1\nb:\n  c: [1,\n    2]\n  d: {e: 3}\n", "f.yaml")
    assert document.lines["a"] == 1
    assert document.lines["b.c"] == 3
    assert document.lines["b.c.1"] == 4
    assert document.lines["b.d.e"] == 5


def test_an_alias_is_a_copy_of_its_own() -> None:
    document = strict.parse("a: &x {b: [1]}\nc: *x\n", "f.yaml")
    assert document.value["c"] == {"b": [1]}
    assert document.value["c"]["b"] is not document.value["a"]["b"]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "duplicate key, first given in line 1", 3),
        ("a: {b: 1,\n  b: 2}\n", "duplicate key", 2),
        ("a: !!python/object/apply:os.system [x]\n", "tag", 1),
        ("a: !!str 3\n", "tag", 1),
        ("base: &b {x: 1}\na:\n  <<: *b\n", "merge keys", 3),
        ("? [a, b]\n: 1\n", "plain text", 1),
        ("a: *nowhere\n", "no anchor &nowhere", 1),
        ("a: &x [1, *x]\n", "contains itself", 1),
        ("a: 1\n---\nb: 2\n", "second document", 2),
        ("a: [1, 2\nb: 3\n", "not valid YAML", 2),
        ("a: b: c\n", "not valid YAML", 1),
        ("a: .inf\n", "not a finite number", 1),
        ("a: 1e999\n", "too large", 1),
        ("a: " + "9" * 5000 + "\n", "more than 18 digits", 1),
        ("a: " + "[" * 60 + "]" * 60 + "\n", "nested deeper than 20 levels", 1),
        ("a: &x 1\nb: [" + "*x, " * 101 + "]\n", "more than 100 aliases", 2),
        (bomb(9), "aliases", None),
        ("# " + "x" * 1_000_001, "larger than 1,000,000 bytes", None),
        ("a: \x00\n", "not valid YAML", None),
        ('a: "\ud800"\n', "not valid", None),
        ("a: &x " + "[" * 15 + "]" * 15 + "\nb: [[[[[[*x]]]]]]\n", "nested deeper", 2),
    ],
)
def test_what_a_campaign_file_must_not_hold_is_refused_in_one_line(text: str, said: str, line: int | None) -> None:
    with pytest.raises(CampaignFileError) as caught:
        strict.parse(text, "f.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("f.yaml")
    assert "\n" not in str(caught.value)
    if line is not None:
        assert caught.value.line == line


def test_aliases_of_large_values_are_counted_by_what_they_expand_to() -> None:
    text = "a: &x [" + "1, " * 3000 + "]\nb: [" + "*x, " * 80 + "]\n"
    with pytest.raises(CampaignFileError, match="values, aliases expanded"):
        strict.parse(text, "f.yaml")
