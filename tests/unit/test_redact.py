"""Secrets do not get through: those that are known, in whole and in parts, and whatever looks like one."""

from __future__ import annotations

import pytest

from lemctl.errors import RunFailed
from lemctl.redact import address_parts, redact, secret_values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("token hf_abcdefghij was refused", "token *** was refused"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("https://me:hunter2secret@host/x", "https://***@host/x"),
        ("?token=abcdef&x=1", "?token=***&x=1"),
        ("password: opensesame, next", "password: ***, next"),
        ('token="abcdef" was refused', 'token="***" was refused'),
        ("{'token': 'sekret99', 'x': 1}", "{'token': '***', 'x': 1}"),
        ('{"api_key": "sekret99"}', '{"api_key": "***"}'),
        ("40 tokens out, 3 tokens/s", "40 tokens out, 3 tokens/s"),
        ("the tokenizer was changed: its hash is abcdef", "the tokenizer was changed: its hash is abcdef"),
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str, told: str) -> None:
    assert redact(text, ()) == told


def test_what_is_known_is_left_out_first_in_whole_and_in_parts() -> None:
    environment = {
        "HF_TOKEN": "plain-word",
        "LEM_NOTIFY_A": "mailtos://someone:pa%20ssword@mail.example.org/team-channel?to=boss@example.org",
        "PATH": "/usr/bin",
    }
    values = secret_values(environment)
    assert "/usr/bin" not in values
    told = redact("plain-word someone pa ssword pa%20ssword team-channel mail.example.org in /usr/bin", values)
    assert told == "*** *** *** *** *** *** in /usr/bin"
    assert "to" not in address_parts(environment["LEM_NOTIFY_A"]), "words would vanish from every text"


def test_a_failure_keeps_no_secret_whoever_worded_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-token")
    fault = RunFailed("infra", "401 for an-odd-token", "Traceback ... an-odd-token")
    assert "an-odd-token" not in f"{fault} {fault.message} {fault.detail}"
