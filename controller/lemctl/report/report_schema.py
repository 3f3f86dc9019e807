"""JSON Schema of `lemctl report --json`. Keys may be added within a version; none is renamed or changes its type."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(meaning: str, properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "description": meaning,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _is(kind: str, meaning: str, *, may_lack: bool = False) -> Schema:
    return {"type": [kind, "null"] if may_lack else kind, "description": meaning}


def _list(of: Schema, meaning: str) -> Schema:
    return {"type": "array", "items": of, "description": meaning}


def _map(of: Schema, meaning: str) -> Schema:
    return {"type": "object", "additionalProperties": of, "description": meaning}


_FIGURE = _object(
    "A metric over the repeats that count.",
    {
        "n": _is("integer", "Repeats that have the figure."),
        "mean": _is("number", "Their mean, in the unit.", may_lack=True),
        "half_width": _is("number", "Half-width of the 95 % t-interval; none below two repeats.", may_lack=True),
        "unit": _is("string", "Unit."),
        "reason": _is("string", "Why there is no mean, or why repeats lack the figure.", may_lack=True),
        "repeat_correlation": _is(
            "number", "Correlation of neighbouring repeats, for which the interval is widened.", may_lack=True
        ),
        "median": _is("number", "With --all.", may_lack=True),
        "sd": _is("number", "Sample standard deviation, with --all.", may_lack=True),
        "cv": _is("number", "sd / |mean|, with --all.", may_lack=True),
        "outlier_cycles": _list({"type": "integer"}, "Cycles that stand out, with --all."),
        "bootstrap": {"description": "[low, high] of the percentile bootstrap, with --all.", "type": ["array", "null"]},
    },
    ("median", "sd", "cv", "outlier_cycles", "bootstrap"),
)

_EXPERIMENT = _object(
    "One configuration.",
    {
        "experiment": _is("string", "Hash of the configuration."),
        "backend": _is("string", "Engine."),
        "model": _is("string", "Model as the campaign names it."),
        "axes": _map({}, "Swept keys and their values."),
        "planned": _is("integer", "Runs planned, without those that adaptation did not need."),
        "saved": _is("integer", "Runs that adaptation did not need."),
        "done": _is("integer", "Runs with a result."),
        "counted": _is("integer", "Results that are averaged."),
        "discarded": _is("integer", "Results left out: SUSPECT ones, and INVALID attempts."),
        "verdicts": _map({"type": "integer"}, "Results by verdict."),
        "invalid": _is("integer", "INVALID attempts."),
        "statuses": _map({"type": "integer"}, "Runs by status."),
        "figures": _map(_FIGURE, "By metric."),
    },
)

_CAMPAIGN = _object(
    "The campaign.",
    {
        "name": _is("string", "Name."),
        "number": _is("integer", "Which campaign of that name."),
        "label": _is("string", "What a person types to mean it."),
        "status": _is("string", "Its state."),
        "reason": _is("string", "Why it is paused.", may_lack=True),
        "executor": _is("string", "docker, local or simulate."),
        "created_utc": _is("string", "ISO 8601."),
        "ended_utc": _is("string", "ISO 8601.", may_lack=True),
        "runs": _map({"type": "integer"}, "Runs by status."),
    },
)


def report_schema() -> Schema:
    """The schema, draft 2020-12."""
    body = _object(
        "A campaign's figures with everything that must stand beside them.",
        {
            "schema": {"const": 1, "description": "Counts incompatible changes."},
            "kind": {"const": "report"},
            "campaign": _CAMPAIGN,
            "simulated": _is("boolean", "Whether no engine ran."),
            "preset": _is("string", "Preset of the file.", may_lack=True),
            "include_suspect": _is("boolean", "Whether SUSPECT results are averaged."),
            "targets_s": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "number"},
                "description": "Latencies in s that goodput asks for, by ttft, tpot and e2e.",
            },
            "surroundings": _object(
                "Where the results came from.",
                {
                    "host": _is("string", "Name of the host.", may_lack=True),
                    "sessions": _list({"type": "object"}, "Distinct engines: backend, executor, image, packages."),
                    "environments": _map(_list({"type": "object"}, "Distinct documents."), "By kind."),
                },
            ),
            "experiments": _list(_EXPERIMENT, "One entry an experiment."),
            "absent": _map(_list({"type": "string"}, "Reasons."), "Why metrics are absent somewhere, by metric."),
            "comparisons": _list({"type": "object"}, "Backend against backend, where nothing else differs."),
            "work": _is("object", "Which experiments did the same work."),
            "lengths": _list({"type": "object"}, "What prompts and outputs cost: the regression by backend and model."),
            "factors": _is("object", "What a kWh costs, where that was given.", may_lack=True),
            "drift": _is("object", "Of deep idle from the campaign's start to its end.", may_lack=True),
            "suspicions": _list({"type": "object"}, "Why results are SUSPECT, with how many runs each concerns."),
            "configuration": _list({"type": "object"}, "Where an engine did something else than it was asked."),
            "failures": _list({"type": "object"}, "Failed runs by kind, with one to look at."),
            "database": _is("string", "The file that was read."),
        },
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lemctl report --json", **body}
