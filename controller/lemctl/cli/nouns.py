"""The table of nouns: which module each word loads, and its one line of help. Adding a noun is one row here."""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    """A word after `lemctl`: the module whose `app` serves it, and what it is for."""

    module: str
    help: str


NOUNS: dict[str, Noun] = {
    "campaign": Noun("lemctl.cli.campaign", "Plan, start and steer campaigns."),
    "experiment": Noun("lemctl.cli.experiment", "Run one experiment given by options."),
    "status": Noun("lemctl.cli.status", "What runs now, what comes next, what failed (also: `lemctl` alone)."),
    "report": Noun("lemctl.cli.report", "The figures of a campaign, one row per experiment."),
    "results": Noun("lemctl.cli.results", "List, show, export and compare runs."),
    "logs": Noun("lemctl.cli.logs", "What an engine printed during a run."),
    "config": Noun("lemctl.cli.config", "Check campaign files; show presets, parameters, settings."),
    "images": Noun("lemctl.cli.images", "Build images; fetch models and prepare prompts."),
    "daemon": Noun("lemctl.cli.daemon", "Start, stop and look at the daemon."),
    "notify": Noun("lemctl.cli.notify", "Try whether notifications arrive."),
    "db": Noun("lemctl.cli.db", "Check, back up and open the database."),
    "doctor": Noun("lemctl.cli.doctor", "Check this machine, with a remedy for each fault."),
}
