"""`lemctl results compare A B`: what changed from one campaign, experiment or commit to another, and how surely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli.long_work import long_work
from lemctl.cli.options import Json
from lemctl.cli.state import open_store
from lemctl.cli.terminal import out, out_json
from lemctl.errors import NotFound, UsageMistake
from lemctl.lines import plural

if TYPE_CHECKING:
    import sqlite3

    from lemctl.report.comparison import Pair
    from lemctl.report.sides import Matched
    from lemctl.store.read_comparison import Measurement, Selection

#: As a campaign with failed runs: the night went through, and its outcome is not good.
EXIT_WORSE = 3
#: What is judged by a campaign's latency targets.
TARGETED = ("goodput", "goodput_share")


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Campaign, experiment or commit to compare with.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Campaign, experiment or commit that is judged.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="A metric to compare. Repeatable.")
    ] = None,
    fail_if: Annotated[
        str | None,
        typer.Option(
            "--fail-if",
            metavar="worse",
            help="Exit 3 where B is worse, or where it cannot be told: work that differed, or what B lacks.",
        ),
    ] = None,
    include_suspect: Annotated[bool, typer.Option("--include-suspect", help="Count SUSPECT results too.")] = False,
    json: Json = False,
) -> int:
    """Compare two campaigns, experiments or commits: NAME, NAME#NUMBER, or the beginning of a hash.

    Paired by cycle where both were measured on the same GPU. Refused where the work was not the same.
    """
    from lemctl.report.comparison import COMPARED
    from lemctl.report.comparison import compare as compared
    from lemctl.store.read_comparison import select
    from lemctl.store.works import read_outputs

    if fail_if not in (None, "worse"):
        raise UsageMistake(f"--fail-if is worse, found {fail_if!r}")
    metrics = _known(metric) if metric else COMPARED
    with long_work("comparing"), open_store() as store:
        sides = (select(store.connection, first), select(store.connection, second))
        results = _results(store.connection, sides, metrics, include_suspect)
        if any(name in TARGETED for name in metrics):
            _refuse_other_targets(store.connection, results)
        matched = _matched(sides, results)
        pairs = compared(matched.pairs, metrics, partial(read_outputs, store.connection))
    if metric and not any(pair.contrasts or pair.is_refused for pair in pairs):
        raise NotFound(f"no result of both sides has {', '.join(metrics)}")
    uncompared = matched.uncompared(metrics)
    fails = fail_if is not None and (bool(uncompared) or any(_fails(pair) for pair in pairs))
    if json:
        out_json("comparison", **_body(sides, matched, pairs, fails), uncompared=uncompared)
    else:
        out("\n".join([*_lines(sides, results, matched, pairs), *(f"not told   {line}" for line in uncompared)]))
    return EXIT_WORSE if fails else 0


def _known(metrics: Sequence[str]) -> tuple[str, ...]:
    from lemctl.campaign.keys import nearest
    from lemctl.judge.metrics import METRICS

    for name in metrics:
        if name not in METRICS:
            raise UsageMistake(f"no metric {name!r}{nearest(name, METRICS)}; docs/reference/metrics.md lists them")
    return tuple(dict.fromkeys(metrics))


def _results(
    connection: sqlite3.Connection, sides: Sequence[Selection], metrics: Sequence[str], include_suspect: bool
) -> list[list[Measurement]]:
    from lemctl.store.read_comparison import measurements

    results = [measurements(connection, side, metrics, include_suspect) for side in sides]
    for side, found in zip(sides, results, strict=True):
        if not found:
            hint = "" if include_suspect else "; `--include-suspect` counts SUSPECT ones"
            raise NotFound(f"{side.kind} {side.label} has no result that counts{hint}")
    both = {result.run for result in results[0]} & {result.run for result in results[1]}
    if both:
        raise UsageMistake(f"{plural(len(both), 'result')} would stand on both sides; name two that differ")
    return results


def _refuse_other_targets(connection: sqlite3.Connection, results: Sequence[Sequence[Measurement]]) -> None:
    from lemctl.store.queries import campaign_document

    ids = {result.campaign_id for found in results for result in found}
    targets = {id: campaign_document(connection, id)[0].get("targets_s") for id in sorted(ids)}
    if any(declared != targets[min(ids)] for declared in targets.values()):
        raise UsageMistake("goodput under other targets is another figure: both sides need the same `targets`")


def _matched(sides: Sequence[Selection], results: Sequence[Sequence[Measurement]]) -> Matched:
    from lemctl.report.sides import match

    are_chosen = all(side.kind == "experiment" for side in sides)
    matched = match(results[0], results[1], (sides[0].label, sides[1].label), may_differ=are_chosen)
    if not matched.pairs:
        raise NotFound(
            f"{sides[0].label} and {sides[1].label} have no experiment in common, and none with the same swept values;"
            " name two experiments by their hashes (`lemctl results list`)"
        )
    return matched


def _fails(pair: Pair) -> bool:
    return pair.is_refused or any(contrast.verdict == "worse" for contrast in pair.contrasts.values())


def _body(sides: Sequence[Selection], matched: Matched, pairs: Sequence[Pair], fails: bool) -> dict[str, Any]:
    named = [{"kind": side.kind, "label": side.label, "value": side.value} for side in sides]
    body: dict[str, Any] = {"first": named[0], "second": named[1], "matched_by": matched.by, "fails": fails}
    return body | {"left_over": matched.left_over, "pairs": [pair.to_json() for pair in pairs]}


def _lines(
    sides: Sequence[Selection],
    results: Sequence[Sequence[Measurement]],
    matched: Matched,
    pairs: Sequence[Pair],
) -> Iterator[str]:
    from lemctl.report.comparison_text import NOTE, comparison_text

    for place, (side, found) in enumerate(zip(sides, results, strict=True)):
        letter = "AB"[place]
        yield f"{letter}          {side.kind} {side.label}: {plural(len(found), 'result')} on {_places(found)}"
    if any(result.is_simulated for found in results for result in found):
        yield "SIMULATED  no engine ran: these figures show how lemctl works, not how fast anything is"
    yield ""
    yield comparison_text(pairs, with_names=True)
    yield ""
    yield f"ratios     B / A, {NOTE}"
    contrasts = [contrast for pair in pairs for contrast in pair.contrasts.values()]
    if any(not contrast.comparison.is_paired for contrast in contrasts):
        yield "pairing    none: not the same GPU; for energy the interval holds both boards' gain of ±5 %"
    elif contrasts:
        yield "pairing    by cycle, on the same GPU"
    if matched.by != "equal experiments":
        yield f"matched    by {matched.by}: their configurations are not the same"
    if matched.left_over:
        yield f"left over  {', '.join(matched.left_over)} without a counterpart"


def _places(results: Sequence[Measurement]) -> str:
    places = dict.fromkeys(", ".join(result.gpus) or "the CPU" for result in results)
    hosts = len({result.host for result in results})
    return " and ".join(places) + (f" of {hosts} hosts" if hosts > 1 else "")
