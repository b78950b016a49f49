"""
The order by CP-SAT, where `ortools` is installed.

Decision: plan-search.
"""

from __future__ import annotations

import importlib
from heapq import nsmallest
from importlib.util import find_spec
from math import gcd
from typing import Any, Final

from taskorch.ext.planner._scheduling import Problem, Schedule

#: With fewer seconds, the solver would spend them all on building its model.
LEAST_SECONDS: Final = 0.2


def is_there() -> bool:
    """Return whether the solver is installed."""
    try:
        return find_spec("ortools") is not None
    except (ImportError, ValueError):
        return False


def solve(
    problem: Problem, seconds: float, hint: Schedule, seed: int = 0
) -> tuple[Schedule, bool] | None:
    """
    Return a schedule, and whether it is optimal; None: no better one was found in time.

    If the solver fails, the caller goes on with *hint*.
    """
    try:
        cp: Any = importlib.import_module("ortools.sat.python.cp_model")
    except Exception:  # noqa: BLE001 - broken, or not for this machine
        return None
    model = cp.CpModel()
    # Durations are counted in their greatest common divisor: fewer values to search.
    step = gcd(*problem.durations, *hint.starts) or 1
    horizon = hint.makespan // step
    numbers = range(len(problem))
    starts, ends, spans = [], [], []
    for n in numbers:
        start = model.new_int_var(0, horizon, f"s{n}")
        length = problem.durations[n] // step
        end = model.new_int_var(0, horizon, f"e{n}")
        spans.append(model.new_interval_var(start, length, end, f"t{n}"))
        starts.append(start)
        ends.append(end)
        model.add_hint(start, hint.starts[n] // step)
        model.add_hint(end, hint.ends[n] // step)
    for n in numbers:
        for parent in set(problem.parents[n]):
            model.add(starts[n] >= ends[parent])
    for place, capacity in enumerate(problem.capacities):
        used = [n for n in numbers if problem.demands[n][place]]
        needs = [problem.demands[n][place] for n in used]
        if sum(needs) <= capacity:
            continue
        if sum(nsmallest(2, needs)) > capacity:
            model.add_no_overlap([spans[n] for n in used])
        else:
            model.add_cumulative([spans[n] for n in used], needs, capacity)
    makespan = model.new_int_var(0, horizon, "makespan")
    model.add_max_equality(makespan, ends or [0])
    model.minimize(makespan)
    solver = cp.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    try:
        status = solver.solve(model)
    except Exception:  # noqa: BLE001 - it is never needed
        return None
    if status not in (cp.OPTIMAL, cp.FEASIBLE):
        return None
    begins = [int(solver.value(start)) * step for start in starts]
    ended = [begins[n] + problem.durations[n] for n in numbers]
    how = "by CP-SAT" + (": as good as can be" if status == cp.OPTIMAL else "")
    best = Schedule(begins, ended, [None] * len(problem), how)
    return best, bool(status == cp.OPTIMAL)
