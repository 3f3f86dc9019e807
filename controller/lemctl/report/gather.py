"""Reads a campaign's report and the evidence behind it from the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lemctl.judge.drift import find_drift
from lemctl.judge.factors import Factors
from lemctl.judge.stopping import read_until
from lemctl.report.cells import cells_of
from lemctl.report.columns import REPORT_METRICS
from lemctl.report.comparison import COMPARED, backend_pairs, compare, work_groups
from lemctl.report.costs import with_costs
from lemctl.report.document import Report
from lemctl.report.evidence import covariates, distributions, measured_runs
from lemctl.report.lengths import INPUTS, fit_results
from lemctl.report.story import Story
from lemctl.report.traces import Trace, read_traces
from lemctl.steps import Tell, unheard
from lemctl.store.database import Store
from lemctl.store.queries import campaign_document, find_campaign
from lemctl.store.read_comparison import Selection, measurements
from lemctl.store.read_results import (
    RunResult,
    campaign_results,
    campaign_surroundings,
    configuration_findings,
    deep_idle_readings,
    suspicions,
)
from lemctl.store.read_status import faults
from lemctl.store.read_traces import MeasuredAttempt, measured_attempts
from lemctl.store.works import read_outputs


def gather_story(
    store: Store,
    name: str | None,
    *,
    include_suspect: bool = False,
    with_traces: bool = True,
    factors: Factors | None = None,
    tell: Tell = unheard,
) -> Story:
    """A campaign with everything that the page shows. Raises `NotFound`."""
    attempts = measured_attempts(store.connection, find_campaign(store.connection, name).id)
    with ThreadPoolExecutor(1) as pool:
        # The samples are taken apart outside Python's lock, by SQLite or in other processes, while the figures are
        # averaged here.
        reading = pool.submit(_traces, store, attempts if with_traces else [], tell)
        report, results = _read(
            store, name, every=True, in_depth=False, include_suspect=include_suspect, factors=factors
        )
        runs = measured_runs(results, attempts, include_suspect=include_suspect)
        traces = reading.result()
        return Story(
            report=report,
            runs=runs,
            distributions=distributions(runs),
            covariates=covariates(runs),
            traces=[trace for trace in traces if trace.attempt.is_result],
            discarded=[trace for trace in traces if not trace.attempt.is_result],
        )


def _traces(store: Store, attempts: list[MeasuredAttempt], tell: Tell) -> list[Trace]:
    try:
        return read_traces(store, attempts, tell=tell) if attempts else []
    finally:
        store.leave_thread()


def gather_report(
    store: Store,
    name: str | None,
    *,
    in_depth: bool = False,
    include_suspect: bool = False,
    factors: Factors | None = None,
) -> Report:
    """The report alone; `in_depth` has every metric with spread and outliers. Raises `NotFound`."""
    return _read(store, name, every=in_depth, in_depth=in_depth, include_suspect=include_suspect, factors=factors)[0]


def _read(
    store: Store, name: str | None, *, every: bool, in_depth: bool, include_suspect: bool, factors: Factors | None
) -> tuple[Report, list[RunResult]]:
    connection = store.connection
    campaign = find_campaign(connection, name)
    document, _ = campaign_document(connection, campaign.id)
    results = campaign_results(connection, campaign.id, None if every else (*REPORT_METRICS, *INPUTS))
    rule = read_until(document.get("cycles"))
    until = None if rule is None else rule[1]
    metrics = list(dict.fromkeys((*REPORT_METRICS, *(name for result in results for name in result.figures))))
    cells = cells_of(
        results,
        metrics if every else REPORT_METRICS,
        include_suspect=include_suspect,
        in_depth=in_depth,
        until=until,
    )
    chosen = Selection("campaign", campaign.label, campaign.id)
    measured = measurements(connection, chosen, COMPARED, include_suspect)
    letters, differences = work_groups(measured)
    report = Report(
        campaign=campaign,
        preset=document.get("preset"),
        surroundings=campaign_surroundings(connection, campaign.id),
        cells=cells if factors is None else with_costs(cells, factors),
        faults=faults(connection, campaign.id),
        database=str(store.home.database),
        include_suspect=include_suspect,
        targets_s=document.get("targets_s"),
        comparisons=compare(backend_pairs(measured), COMPARED, partial(read_outputs, connection)),
        work=letters,
        work_differences=differences,
        factors=factors,
        lengths=fit_results(results, include_suspect=include_suspect),
        drift=find_drift(deep_idle_readings(connection, campaign.id)),
        suspicions=suspicions(connection, campaign.id),
        configuration=configuration_findings(connection, campaign.id),
    )
    return report, results
