"""`TaskOrchestrator.simulate`: from what a user says to a report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from taskorch.errors import InvalidTaskError
from taskorch.model import check_count, show
from taskorch.simulation._plans._chance import Durations, Failures, history_of, odds_of
from taskorch.simulation._plans._plan import means_of, plan_of
from taskorch.simulation._plans._report import SimulationReport, report_of
from taskorch.simulation._plans._study import Study

if TYPE_CHECKING:
    from taskorch.runtime import Runtime


def simulate(
    runtime: Runtime,
    work: object,
    durations: Durations,
    failures: Failures,
    draws: int,
    seed: int,
) -> SimulationReport:
    """See `TaskOrchestrator.simulate`."""
    check_count("draws", draws, least=1)
    if isinstance(seed, bool) or not isinstance(seed, int):
        msg = f"seed is an integer, not {show(seed)}"
        raise InvalidTaskError(msg)
    kernel = runtime.kernel
    plan = plan_of(work, lambda name: name in kernel.tasks or name in kernel.evicted)
    odds = odds_of(
        plan, durations, failures, partial(history_of, runtime), spread=draws > 1
    )
    return report_of(Study(means_of(runtime), plan, odds, draws, seed))
