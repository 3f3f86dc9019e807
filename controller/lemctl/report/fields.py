"""What exported rows are made of: the columns of figures and of samples, with types and meaning. The documentation and
the JSON schemas are made from these tables."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Kind = Literal["text", "integer", "number", "object"]


class Field(NamedTuple):
    """A column. One that `may_lack` is empty where there is nothing to tell."""

    name: str
    kind: Kind
    may_lack: bool
    meaning: str


FIGURES: tuple[Field, ...] = (
    Field("host", "text", False, "Id of the installation that measured; databases are merged by it."),
    Field("campaign", "text", False, "NAME or NAME#NUMBER."),
    Field("executor", "text", False, "`docker`, `local`, or `simulate` for figures that no engine made."),
    Field("run", "integer", False, "Number of the run: `lemctl results show RUN`."),
    Field("experiment", "text", False, "Hash of the configuration."),
    Field("backend", "text", False, "Engine."),
    Field("model", "text", False, "Model as the campaign names it."),
    Field("axes", "object", False, "Swept keys and their values; as JSON text in CSV and Parquet."),
    Field("cycle", "integer", False, "Which repeat."),
    Field("run_status", "text", False, "What became of the run."),
    Field("attempt", "integer", False, "Which try at the run, from 1."),
    Field("attempt_uuid", "text", False, "The same in every database."),
    Field("outcome", "text", False, "`ok`, `failed`, `interrupted` or `cancelled`."),
    Field("fault", "text", True, "Kind of a failure."),
    Field("verdict", "text", True, "`VALID`, `SUSPECT` or `INVALID`; INVALID figures are never averaged."),
    Field("started_utc", "text", False, "When the attempt began, ISO 8601."),
    Field("metric", "text", True, "Name of the figure; absent for an attempt without figures."),
    Field("value", "number", True, "The figure in its unit; absent with a reason, never 0 instead."),
    Field("uncertainty", "number", True, "Standard uncertainty (k = 1) from the meters."),
    Field("unit", "text", True, "Unit of the figure."),
    Field("reason", "text", True, "Why there is no value."),
)

SAMPLES: tuple[Field, ...] = (
    Field("campaign", "text", False, "NAME or NAME#NUMBER."),
    Field("run", "integer", False, "Number of the run."),
    Field("attempt", "integer", False, "Which try at the run, from 1."),
    Field("attempt_uuid", "text", False, "The same in every database."),
    Field("gpu", "text", False, "UUID of the GPU."),
    Field("series", "text", False, "`power`, `counter` (energy) or `slow` (processes)."),
    Field("boot_id", "text", False, "Boot of the host that the times belong to."),
    Field("t_mono_ns", "integer", False, "Monotonic time of the reading; windows have the same clock."),
    Field("t_s", "number", False, "Seconds since the attempt began."),
    Field("phase", "text", True, "What the attempt did then."),
    Field("in_window", "integer", False, "1 inside a measured window, else 0."),
    Field("energy_mj", "integer", True, "Counter: energy since the driver was loaded."),
    Field("power_mw", "integer", True, "Power: the reading that is integrated."),
    Field("power_source", "text", True, "`instant`, `average`, or `usage` (a 1 s mean on recent GPUs)."),
    Field("power_scope", "text", True, "`gpu`, or `module` where only CPU and GPU together can be read."),
    Field("power_average_mw", "integer", True, "Average power as the driver gives it."),
    Field("temp_c", "integer", True, "Core temperature, whole degrees."),
    Field("memory_temp_c", "integer", True, "Memory temperature."),
    Field("sm_clock_mhz", "integer", True, "SM clock."),
    Field("memory_clock_mhz", "integer", True, "Memory clock."),
    Field("gpu_utilisation_pct", "integer", True, "Share of time with a kernel running."),
    Field("memory_utilisation_pct", "integer", True, "Share of time with memory being accessed."),
    Field("memory_used_b", "integer", True, "Memory in use."),
    Field("event_reasons", "integer", True, "Bits of NVML's clocks event reasons."),
    Field("reading", "object", False, "The whole reading as it was stored; as JSON text in CSV and Parquet."),
)
#: Columns of `SAMPLES` that are keys of a reading.
READING_KEYS: tuple[str, ...] = tuple(field.name for field in SAMPLES[11:-1])

_JSON_TYPES: dict[Kind, str] = {"text": "string", "integer": "integer", "number": "number", "object": "object"}


def row_schema(kind: str, fields: tuple[Field, ...]) -> dict[str, Any]:
    """JSON Schema (2020-12) of one exported line of the JSON form: a row, or the first line, which has the version."""
    properties: dict[str, Any] = {
        field.name: {
            "type": [_JSON_TYPES[field.kind], "null"] if field.may_lack else _JSON_TYPES[field.kind],
            "description": field.meaning,
        }
        for field in fields
    }
    head = {
        "type": "object",
        "properties": {"schema": {"const": 1}, "kind": {"const": kind}},
        "required": ["schema", "kind"],
        "additionalProperties": False,
    }
    row = {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in fields],
        "additionalProperties": False,
    }
    title = f"lemctl export of {kind}, one JSON object a line"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "oneOf": [head, row]}


def fields_table(fields: tuple[Field, ...]) -> list[str]:
    """The columns as a table of the documentation."""
    rows = (f"| `{f.name}` | {f.kind}{', may be empty' if f.may_lack else ''} | {f.meaning} |" for f in fields)
    return ["| column | type | meaning |", "|---|---|---|", *rows]
