"""Which prompts an experiment asks for: the data set with the keys that choose from it, as the specification has them.

Keys that say nothing are left out, so that an experiment which does not use them has the hash that it always had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lem_runner.lengths import LengthError, draw_lengths
from lemctl.campaign.messages import SectionError


def prompt_choice(values: Mapping[str, Any]) -> dict[str, Any]:
    """`dataset`, and `select` and `lengths` where they say something. Raises `SectionError`."""
    dataset = values["dataset"]
    if dataset is None:
        raise SectionError(
            "workload.dataset",
            "this key is required, here or in sweep: file:NAME, hub:NAME, a data set's name or random",
        )
    select = {name: value for name, value in (values["select"] or {}).items() if value is not None}
    lengths = _lengths(values["lengths"] or {}, dataset["kind"])
    random = values["random"]
    input_len = random.get("input_len") if random else None
    if dataset["kind"] == "random":
        _check_random(values, input_len, select, lengths)
    elif input_len is not None:
        raise SectionError("workload.random", "has no effect without dataset: random")
    chosen = _part(dataset, select)
    rest = {"select": _filters(select), "lengths": lengths}
    return {"dataset": {**chosen, "input_len": input_len}, **{name: value for name, value in rest.items() if value}}


def _check_random(
    values: Mapping[str, Any], input_len: int | None, select: Mapping[str, Any], lengths: Mapping[str, Any]
) -> None:
    if input_len is None and "draw" not in lengths:
        raise SectionError(
            "workload.dataset",
            "random prompts need their length: workload.random.input_len, as in random: {input_len: 512},"
            " or workload.lengths.draw",
        )
    if input_len is not None and "draw" in lengths:
        raise SectionError("workload.lengths.draw", "lengths are either drawn or given by workload.random.input_len")
    if values["template"] != "none":
        raise SectionError("workload.template", "random token ids take no template")
    if select:
        raise SectionError(f"workload.select.{next(iter(select))}", "random token ids are not chosen from anything")


def _part(dataset: Mapping[str, Any], select: Mapping[str, Any]) -> dict[str, Any]:
    """The data set with the column and split that were named; a named data set's own form yields to a column."""
    chosen = dict(dataset)
    if "split" in select:
        if dataset["kind"] != "hub":
            raise SectionError("workload.select.split", "only hub data sets have splits; a file is one part")
        chosen["split"] = select["split"]
    if "column" in select:
        chosen |= {"column": select["column"], **({"form": None} if "form" in dataset else {})}
    return chosen


def _filters(select: Mapping[str, Any]) -> dict[str, Any]:
    """What rows must have. Raises `SectionError` for bounds that nothing lies between."""
    filters = {name: value for name, value in select.items() if name in ("where", "min_tokens", "max_tokens") and value}
    if filters.get("min_tokens", 0) > filters.get("max_tokens", float("inf")):
        raise SectionError("workload.select.min_tokens", "is above max_tokens: no prompt is left")
    where = filters.get("where", {})
    ordered = {name: sorted(set(value), key=str) if isinstance(value, list) else value for name, value in where.items()}
    return {**filters, **({"where": ordered} if where else {})}


def _lengths(lengths: Mapping[str, Any], kind: str) -> dict[str, Any]:
    said = {name: value for name, value in lengths.items() if value is not None and (name, value) != ("keep", "start")}
    draw, truncate, pad = (said.get(name) for name in ("draw", "truncate", "pad"))
    if draw is not None:
        if truncate is not None or pad is not None:
            raise SectionError("workload.lengths.draw", "sets every length; truncate and pad have nothing to do")
        try:
            draw_lengths(draw, 1, 0)
        except LengthError as error:
            raise SectionError("workload.lengths.draw", str(error)) from None
    elif kind == "random" and said:
        raise SectionError(f"workload.lengths.{next(iter(said))}", "random token ids have their length already")
    if truncate is not None and pad is not None and pad > truncate:
        raise SectionError("workload.lengths.pad", f"{pad} tokens are more than truncate leaves: {truncate}")
    if "keep" in said and draw is None and truncate is None:
        raise SectionError("workload.lengths.keep", "has no effect without truncate or draw")
    return said
