"""What an attempt did is in the database: two campaigns are compared after their session folders have gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lem_runner.prompts import ids_sha256
from lem_runner.results import AttemptResult, RequestRecord, WindowRecord
from lemctl.cli.main import run
from lemctl.daemon.instruments import GateRecord, Watched
from lemctl.daemon.judging import _evidence
from lemctl.engines.events import Finished
from lemctl.judge.verdict import judge
from lemctl.store.works import read_outputs
from night import Night, campaign_text


def test_campaigns_are_compared_when_their_session_folders_were_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = campaign_text("slower", 3).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 4.0")
    longer = campaign_text("longer", 3).replace("max_new_tokens: 4", "max_new_tokens: 6")
    with Night(tmp_path) as night:
        for text in (campaign_text(cycles=3), slower, longer):
            night.add(text)
        night.begin()
        night.wait_campaign(name="longer")
        night.end()
        with night.reading() as store:
            (digest,) = {row[0] for row in store.connection.execute("SELECT outputs FROM works WHERE attempt_id <= 3")}
            kept = read_outputs(store.connection, digest)
        assert [len(ids) for _, _, ids in kept] == [4] * 4
        assert all(ids_sha256(list(ids)) == sha256 for _, sha256, ids in kept)
        shutil.rmtree(night.home.sessions)
        for name, value in night.variables().items():
            monkeypatch.setenv(name, value)

        def compared(other: str) -> dict[str, Any]:
            words = ("results", "compare", "night", other, "--metric", "output_tokens_per_s", "--json")
            assert run(words) == 0
            (pair,) = json.loads(capsys.readouterr().out)["pairs"]
            return dict(pair)

        capsys.readouterr()
        pair = compared("slower")
        assert pair["same_work"]
        assert pair["texts"] == {"compared": 12, "agreed": 12, "share": 1.0, "common_tokens": 4.0, "judged": False}
        assert pair["metrics"]["output_tokens_per_s"]["verdict"] == "worse"
        refused = compared("longer")
        assert refused["metrics"] == {}
        assert refused["differences"] == ["output tokens of a request: 4 against 6"]


SPEC: dict[str, Any] = {
    "workload": {"output": "fixed", "max_new_tokens": 1, "load": {"mode": "offline"}},
    "measure": {"window_s": None, "warmup": {"kind": "none"}},
}


@pytest.mark.parametrize(("declared", "codes"), [(None, ["cache_hits"]), (0.5, []), (0.2, ["cache_hits"])])
def test_prompts_from_a_cache_are_counted_and_more_than_declared_are_refused(
    declared: float | None, codes: list[str]
) -> None:
    record = RequestRecord(0, 0, 0, "p", 10, 1, 1, None, 2, None, "length", cached_tokens=4)
    result = AttemptResult(1, "a", "key", [WindowRecord(0, 1, 2, 1, 1, 10, 1)], 1, "", {}, {}, {})
    spec = {**SPEC, "workload": {**SPEC["workload"], **({"prefix_cache_hits": declared} if declared else {})}}
    gate = GateRecord("fixed", 0.0, "cold")
    evidence = _evidence(spec, Finished(result, [record]), gate, Watched(), {})
    assert [finding.code for finding in judge(evidence)] == codes
