"""From a data set to a prompt file: which rows, in which order, as which ids. Everything follows from what is given."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lem_runner.datasets import DataError
from lem_runner.encoders import Encoder
from lem_runner.forms import Form, prompts_of
from lem_runner.hub_datasets import Report, fetch_dataset
from lem_runner.lengths import LengthError, Lengths, draw_lengths, fit
from lem_runner.prompts import Prompt, ids_sha256, prompt_key, read_dataset_record
from lem_runner.records import publish

#: Candidates looked at first where prompts are chosen by their length; twice as many at each further look.
FIRST_LOOK = 1000
Tell = Callable[[int, int], None]


class JobError(ValueError):
    """The job asks for something that there is not; one line."""


@dataclass(frozen=True)
class Selection:
    """Which prompts one entry of a job asks for."""

    dataset: dict[str, Any]
    prompts: int
    seed: int
    template: str
    lengths: Lengths = Lengths()  # noqa: RUF009 - frozen
    min_tokens: int | None = None
    max_tokens: int | None = None

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Selection:
        """Parse an entry; `JobError` for numbers that select nothing."""
        count, seed = dataset.get("prompts"), dataset.get("seed", 0)
        template = dataset.get("template") or "none"
        if type(count) is not int or count < 1 or type(seed) is not int:
            raise JobError(
                f"data set {dataset_name(dataset)}: prompts is {count!r}, seed {seed!r}; whole numbers are needed"
            )
        if template not in ("none", "chat"):
            raise JobError(f"data set {dataset_name(dataset)}: template {template!r} is neither none nor chat")
        bounds = {name: dataset.get(name) for name in ("min_tokens", "max_tokens")}
        try:
            lengths = Lengths(**(dataset.get("lengths") or {}))
        except TypeError as error:
            raise JobError(f"data set {dataset_name(dataset)}: lengths: {error}") from error
        return cls(dict(dataset), count, seed, template, lengths, **bounds)

    def at(self, commit: str) -> Selection:
        """The same, of a hub data set at one commit: that is what its prompts are named by."""
        return replace(self, dataset={**self.dataset, "commit": commit})

    @property
    def form(self) -> Form:
        """How its rows are read."""
        return Form(self.dataset.get("column"), self.dataset.get("form"), self.dataset.get("where") or {})


def dataset_name(dataset: Mapping[str, Any]) -> str:
    """What a message calls it."""
    return str(dataset.get("path") or dataset.get("name") or dataset.get("kind"))


def prepare(
    selection: Selection, encoder: Encoder, prompts_dir: Path, may_download: bool, fetching: Report, tell: Tell
) -> Path:
    """Write `<key>.jsonl` and, after it, `<key>.meta.json`; nothing is done where both are there already.

    `fetching(done_b, total_b)` and `tell(done, total)` are called now and then. Raises `ValueError` (a `JobError`,
    `DataError`, `LengthError`), `FetchError` or `OSError`, each with one line.
    """
    is_hub = selection.dataset.get("kind") == "hub"
    record = read_dataset_record(prompts_dir, selection.dataset) if is_hub else None
    if record is not None:
        selection = selection.at(record["commit"])
    if record is not None or not is_hub:
        found = _prepared(selection, encoder, prompts_dir)
        if found is not None:
            return found
    if is_hub:
        fetched = fetch_dataset(selection.dataset, prompts_dir, may_download, fetching)
        selection, paths = selection.at(fetched.commit), fetched.paths
    else:
        paths = [Path(selection.dataset["path"])] if selection.dataset.get("kind") == "file" else []
    return _write(selection, encoder, list(_prompts(selection, encoder, paths, tell)), prompts_dir)


def _prepared(selection: Selection, encoder: Encoder, prompts_dir: Path) -> Path | None:
    """The prompt file, where it is there and whole."""
    path = prompts_dir / f"{_key(selection, encoder)}.jsonl"
    return path if path.exists() and path.with_suffix(".meta.json").exists() else None


def _write(selection: Selection, encoder: Encoder, prompts: list[Prompt], prompts_dir: Path) -> Path:
    key = _key(selection, encoder)
    path = prompts_dir / f"{key}.jsonl"
    sha256 = publish(path, b"".join(prompt.encode() for prompt in prompts))
    meta = {"key": key, "sha256": sha256, **_meta(selection, encoder, prompts)}
    publish(path.with_suffix(".meta.json"), json.dumps(meta, indent=1, ensure_ascii=False).encode() + b"\n")
    return path


def _prompts(selection: Selection, encoder: Encoder, paths: Sequence[Path], tell: Tell) -> Iterator[Prompt]:
    kind = selection.dataset.get("kind")
    if kind == "random":
        for index, ids in enumerate(draw_ids(selection, encoder)):
            yield _prompt(index, None, ids)
    elif kind in ("file", "hub"):
        bounds = selection.lengths.of(selection.prompts, selection.seed)
        for index, text in enumerate(_chosen(selection, encoder, paths)):
            tell(index, selection.prompts)
            yield _prompt(index, *_encoded(text, encoder, selection, *bounds[index]))
    else:
        raise JobError(f"data set {dataset_name(selection.dataset)}: kind {kind!r} is none of random, file, hub")


def draw_ids(selection: Selection, encoder: Encoder) -> list[list[int]]:
    """Ids of an exact length, or of lengths that are drawn, the same for the same seed and vocabulary; none special."""
    length, drawn = selection.dataset.get("input_len"), selection.lengths.draw
    if drawn is None and (type(length) is not int or length < 1):
        raise JobError(f"random prompts: input_len is {length!r}, a whole number of at least 1 is needed")
    if selection.template != "none":
        raise JobError(f"random prompts: template {selection.template!r}; drawn ids have no text to put in one")
    lengths = draw_lengths(drawn, selection.prompts, selection.seed) if drawn else [length] * selection.prompts
    ordinary = [token for token in range(encoder.vocab_size) if token not in encoder.special]
    draw = random.Random(selection.seed)  # noqa: S311 - a reproducible choice
    return [draw.choices(ordinary, k=int(one or 0)) for one in lengths]


def _chosen(selection: Selection, encoder: Encoder, paths: Sequence[Path]) -> list[str]:
    """The texts, drawn from all that the filters let through. Two passes over the files: they may be large."""
    where, wanted = dataset_name(selection.dataset), selection.prompts
    count = sum(1 for _ in prompts_of(paths, selection.form))
    if count == 0:
        raise DataError(f"{where}: no prompts in it" + (" that pass the filter" if selection.form.where else ""))
    draw = random.Random(selection.seed)  # noqa: S311 - a reproducible choice
    if selection.min_tokens is None and selection.max_tokens is None:
        if count < wanted:
            raise JobError(f"{where}: {count} prompts, {wanted} are asked for")
        return _picked(selection, paths, draw.sample(range(count), wanted))
    order, found, look = draw.sample(range(count), count), list[str](), max(FIRST_LOOK, 4 * wanted)
    while order and len(found) < wanted:
        candidates, order = order[:look], order[look:]
        look *= 2
        found += [text for text in _picked(selection, paths, candidates) if _has_length(text, selection, encoder)]
    if len(found) < wanted:
        least, most = selection.min_tokens or 1, selection.max_tokens or "any number of"
        raise JobError(
            f"{where}: {len(found)} of {count} prompts have {least} to {most} tokens, {wanted} are asked for"
        )
    return found[:wanted]


def _picked(selection: Selection, paths: Sequence[Path], places: Sequence[int]) -> list[str]:
    wanted = set(places)
    texts = {n: text for n, text in enumerate(prompts_of(paths, selection.form)) if n in wanted}
    return [texts[place] for place in places]


def _has_length(text: str, selection: Selection, encoder: Encoder) -> bool:
    tokens = len(encoder.encode(encoder.render(text, selection.template), selection.template))
    return (selection.min_tokens or 0) <= tokens and (selection.max_tokens is None or tokens <= selection.max_tokens)


def _encoded(text: str, encoder: Encoder, selection: Selection, least: int, most: int | None) -> tuple[str, list[int]]:
    """Text and ids of one prompt, cut or filled to its length where that is needed."""
    template = selection.template
    rendered = encoder.render(text, template)
    ids = encoder.encode(rendered, template)
    if least <= len(ids) and (most is None or len(ids) <= most):
        return rendered, ids
    frame, body = encoder.parts(text, template)
    try:
        ids = fit(body, frame, least, most, selection.lengths.keep)
    except LengthError as error:
        raise JobError(f"data set {dataset_name(selection.dataset)}: {error}") from error
    return encoder.decode(ids), ids


def _prompt(index: int, text: str | None, ids: list[int]) -> Prompt:
    if not ids:
        raise JobError(f"prompt {index} has no tokens: {text!r}")
    return Prompt(index, text, ids, ids_sha256(ids))


def _meta(selection: Selection, encoder: Encoder, prompts: list[Prompt]) -> dict[str, Any]:
    lengths = [len(prompt.ids) for prompt in prompts]
    return {
        "prompts": len(prompts),
        "tokens": sum(lengths),
        "min_length": min(lengths),
        "median_length": statistics.median(lengths),
        "max_length": max(lengths),
        "tokenizer_sha256": encoder.identity,
        "vocab_size": encoder.vocab_size,
        "seed": selection.seed,
        "template": selection.template,
        "source": {name: value for name, value in selection.dataset.items() if value is not None},
    }


def _key(selection: Selection, encoder: Encoder) -> str:
    """The name computed here; a job that names another one was made from other data or another tokenizer."""
    try:
        key = prompt_key(selection.dataset, selection.prompts, selection.seed, selection.template, encoder.identity)
    except OSError as error:
        raise JobError(f"data set {dataset_name(selection.dataset)}: {error.strerror}") from error
    asked = selection.dataset.get("key")
    if asked is not None and asked != key:
        name = dataset_name(selection.dataset)
        raise JobError(f"data set {name}: its key is {key}, not {asked}: the data or the tokenizer changed")
    return key
