"""The documentation and the JSON schema of campaign files, generated from the models, presets and limits."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lem_runner.protocol import CLOSED_FILLINGS, CONTINUOUS_FILLINGS, SETTLE_P95
from lemctl.campaign.file import MAX_RUNS
from lemctl.campaign.messages import section_of, unwrapped
from lemctl.campaign.notation import MOST_WINDOWS, Duration, Limit, Rate, Share, Window
from lemctl.campaign.presets import PRESETS, preset_table
from lemctl.campaign.schema import BACKENDS, Campaign, Scoped
from lemctl.campaign.trace import COLUMNS
from lemctl.campaign.values import experiment_keys
from lemctl.campaign.yaml import MAX_ALIASES, MAX_BYTES, MAX_DEPTH

_BOUNDS = (
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Gt, "gt", "more than"),
    (annotated_types.Le, "le", "at most"),
    (annotated_types.Lt, "lt", "less than"),
)
_WORDS = {
    "cycles": "whole number, at least 1, at most 10 000, or mapping",
    "hours": "mapping, or list of mappings",
    "gpus": "list of indices or UUIDs",
}
#: Below a key whose mapping has no model of its own: what may stand there.
_FREE = {
    "model": [("model.random", "mapping", "A shape without its weights: keys of the model's `config.json`.")],
    "sweep": [
        ("sweep.zip", "mapping, or list of mappings", "Dotted keys whose lists advance together."),
        ("sweep.groups", "list of mappings", "Grids of which each is combined with the one above."),
    ],
}
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false"}

_HEAD = """\
# The campaign file

Generated from the program; do not edit. A campaign file is one YAML 1.2 document, a mapping of the keys below.

```yaml
name: batch-sizes
preset: benchmark
model: hf:meta-llama/Llama-3.1-8B-Instruct
backend: pytorch
workload: {dataset: file:questions.jsonl, prompts: 200, max_new_tokens: 128}
sweep:
  workload.load.batch_size: [1, 2, 4, 8]
  engine.dtype: [float16, bfloat16]
exclude: [{engine.dtype: float16, workload.load.batch_size: 1}]
cycles: 5
seed: 7
```

A value given on the command line (`--set workload.prompts=20`) stands above the file, the file above its preset, the
preset above the defaults; `lemctl config validate FILE --explain` shows every value with its origin. A key on the
command line that the file sweeps is no longer swept. A nested key may be written with dots: `workload.prompts: 20`.

Durations carry their unit: `500ms`, `30s`, `10m`, `2h`, `1d`; 0 needs none. `no`, `off` and `22:00` are text, as YAML
1.2 has it. Unknown and duplicate keys, tags and merge keys are refused.
"""

_SWEEP = """\
## Sweep

`sweep` takes dotted keys, each with a list of values; every value of one is combined with every value of the others.

```yaml
sweep:
  backend: [pytorch, vllm]
  workload.load.batch_size: [1, 8]
  vllm.engine.gpu_memory_utilization: [0.85, 0.9]
  zip: {workload.max_new_tokens: [32, 64], workload.prompts: [100, 50]}
  groups:
    - {engine.dtype: [float16, bfloat16]}
    - {engine.dtype: [float32], measure.window: [30s]}
exclude: [{backend: vllm, workload.load.batch_size: [1]}]
include: [{backend: pytorch, pytorch.engine.attn_implementation: eager}]
```

- A key that begins with a backend's name (`vllm.engine.NAME`, `vllm.sampling.NAME`) multiplies that backend's cells
  only. Its name and value are checked against the backend's catalogue, `images/BACKEND/params.json`.
- `zip` holds keys whose lists advance together; a list of such mappings makes several axes.
- `groups` are alternatives: the grid above combined with the first, then with the second.
- `exclude` leaves out each cell that has all values of an entry; a list means any of its values.
- `include` adds one experiment for each entry: the file's own values, not the swept ones, with the entry's.
- Experiments that turn out alike are merged.
"""


_LOADS = """\
## Loads

| `mode` | reads | requests | window |
| --- | --- | --- | --- |
| `offline` | `batch_size`, `batching` | batch after batch | whole batches |
| `offline`, `batching: continuous` | `batch_size` | always so many in flight | ramp and drain cut off |
| `closed` | `concurrency` | always so many in flight | ramp and drain cut off |
| `poisson` | `rate` | at random, independent of each other | after settling, to the last arrival |
| `gamma` | `rate`, `burstiness` | at random, in bursts (below 1) or more evenly (above 1) | the same |
| `trace` | `trace` | when the file says | the same |

- All but static and dynamic batches need an engine that takes requests while it works on others; the catalogue of a
  backend says which modes it serves.
- With `measure.window: one_pass` every prompt is sent exactly once. Where requests are kept in flight a window needs
  CLOSED times `concurrency` of them, CONTINUOUS times `batch_size` for `continuous`: ramp and drain are cut off.
- An open loop is measured from SETTLE times the 95th percentile of latency after the first arrival. One whose
  requests in flight grow is `saturated`, and SUSPECT: its latencies say how long one looked.
- Arrivals follow from `workload.seed`: the same for every engine and in every cycle.
- `targets` names latencies that a request must keep; `goodput` counts those that kept all of them. They are judged
  afterwards: the same work under other targets keeps its hash, and is another plan.
- A trace is a file of times in seconds, ascending: one a line (`.txt`), a column (`.csv`) or a field (`.json`,
  `.jsonl`) named one of COLUMNS. `images prefetch` copies it to where engines can read it.
"""


def render() -> str:
    """The whole page, as Markdown."""
    parts = [
        _HEAD,
        "## Keys\n\n" + _table(("key", "value", "default", "meaning"), [*_rows(Campaign, ""), *_scoped_rows()]),
        _scoped(),
        _loads(),
        _SWEEP,
        "Keys that can be swept, excluded and included: " + ", ".join(f"`{key}`" for key in experiment_keys()) + ".\n",
        _presets(),
        _limits(),
    ]
    return "\n".join(parts)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a campaign file, for editors."""
    schema = Campaign.model_json_schema()
    scoped = Scoped.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$defs"]["Scoped"] = scoped
    for backend in BACKENDS:
        schema["properties"][backend] = {"$ref": "#/$defs/Scoped", "description": f"Parameters for {backend} only."}
    nested = "|".join(["workload", "engine", "sampling", "measure", "gate", "timeouts", "retry", "breaker", *BACKENDS])
    schema["patternProperties"] = {rf"^({nested})\..+": {"description": "A nested key, written with dots."}}
    _write_durations(schema)
    schema["properties"]["backend"]["anyOf"][0]["enum"] = list(BACKENDS)
    schema["properties"]["preset"]["anyOf"][0]["enum"] = list(PRESETS)
    return schema


def _write_durations(node: Any) -> None:
    """Defaults of durations as the file writes them; they are the only numbers with a fraction."""
    if isinstance(node, dict):
        if isinstance(node.get("default"), float):
            node["default"] = f"{node['default']:g}s"
        for inner in node.values():
            _write_durations(inner)
    elif isinstance(node, list):
        for inner in node:
            _write_durations(inner)


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = section_of(field.annotation)
        kind = _kind(key, field) if inner is None else _WORDS.get(key, "mapping")
        yield f"`{key}`", kind, _default(field), field.description or ""
        yield from ((f"`{free}`", value, "", meaning) for free, value, meaning in _FREE.get(key, ()))
        if inner is not None:
            yield from _rows(inner, f"{key}.")


def _kind(key: str, field: FieldInfo) -> str:
    """Type and allowed values, in words."""
    if key in _WORDS:
        return _WORDS[key]
    for annotation, words in (
        (Duration, "duration"),
        (Limit, "duration, more than 0"),
        (Window, "duration, or `one_pass`"),
        (Share, "share, such as `2%`"),
        (Rate, "rate, such as `4/s`, more than 0"),
    ):
        if _reader(field) in get_args(annotation)[1:]:
            return words
    names = {"backend": BACKENDS, "preset": tuple(PRESETS)}
    if key in names:
        return ", ".join(f"`{name}`" for name in names[key])
    bounds = _bounds([*field.metadata])
    return _type_words(unwrapped(field.annotation)) + (f", {bounds}" if bounds else "")


def _reader(field: FieldInfo) -> Any:
    """What reads the value: the first mark of its type, also of one that may be left out."""
    inner = [mark for part in get_args(field.annotation) for mark in get_args(part)[1:]]
    return next(iter([*field.metadata, *inner]), None)


def _type_words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = _bounds([mark for item in arguments[1:] for mark in getattr(item, "metadata", [item])])
        return _type_words(arguments[0]) + (f", {bounds}" if bounds else "")
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type_words(part) for part in arguments if part is not type(None))
    if origin is list:
        words = _type_words(arguments[0])
        return f"list of {words}" if words.startswith("`") else f"list of {words}s"
    if origin is dict:
        return "mapping"
    return _PLAIN.get(annotation, "text")


def _bounds(marks: list[Any]) -> str:
    found = []
    for mark in marks:
        for kind, name, words in _BOUNDS:
            if isinstance(mark, kind):
                bound = getattr(mark, name)
                found.append(f"{words} {'2^63' if bound == 2**63 else f'{bound:,}'.replace(',', ' ')}")
    return ", ".join(found)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None or field.default in (None, ""):
        return ""
    default: Any = field.default
    is_duration = isinstance(default, float)
    text = str(default).lower() if isinstance(default, bool) else f"{default:g}s" if is_duration else str(default)
    return f"`{text}`"


def _scoped() -> str:
    names = ", ".join(f"`{backend}`" for backend in BACKENDS)
    return (
        f"`BACKEND.engine.NAME` and `BACKEND.sampling.NAME`, with BACKEND one of {names}, set a parameter of one "
        "engine only; it stands above the portable `engine` and `sampling`.\n"
    )


def _scoped_rows() -> Iterator[tuple[str, ...]]:
    for name, field in Scoped.model_fields.items():
        yield f"`BACKEND.{name}.NAME`", "as the backend's catalogue has it", "", f"{field.description} For one backend."


def _loads() -> str:
    """The kinds of load, with the numbers that both ends go by."""
    numbers = {"CLOSED": str(CLOSED_FILLINGS), "CONTINUOUS": str(CONTINUOUS_FILLINGS), "SETTLE": f"{SETTLE_P95:g}"}
    text = _LOADS
    for mark, number in {**numbers, "COLUMNS": ", ".join(f"`{name}`" for name in COLUMNS)}.items():
        text = text.replace(mark, number)
    return text


def _presets() -> str:
    names, rows = preset_table()
    shown = [(f"`{key}`", *map(_value, values)) for key, values in rows]
    return "## Presets\n\n" + _table(("key", *names), shown)


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        until = value["until"]
        return f"until {until['metric']} is within {until['half_width']}, {value['min']} to {value['max']}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _limits() -> str:
    rows = [
        ("size of the file", f"{MAX_BYTES // 1_000_000} MB"),
        ("depth of nesting", str(MAX_DEPTH)),
        ("aliases", str(MAX_ALIASES)),
        ("windows in `hours`", str(MOST_WINDOWS)),
        ("runs after expansion", f"{MAX_RUNS} (setting `max_runs`)"),
    ]
    return "## Limits\n\n" + _table(("what", "at most"), rows)


def _table(header: tuple[str, ...], rows: Any) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)
