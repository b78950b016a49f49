"""
Simulate fresh seeds for as long as you like: `python -m tests.house.tools.soak`.

Each seed is worlds with random policies, workers, work and faults: one with tasks on
their own, with `--workflows` one with a run of a workflow, and with `--rooms` one with
all that is above the kernel. After every step all invariants are checked. It prints
which seeds it ran, and of one that fails the error, the few commands and faults
that bring it about, and how to repeat it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from time import monotonic

from tests.house.tools.explore import STEPS, FailedRun, find_failure

__all__ = ("main",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code is 1 if a seed has failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.house.tools.soak", description=__doc__
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=_natural, default=None, help="at most so many")
    parser.add_argument(
        "--steps", type=_natural, default=STEPS, help="commands in a run"
    )
    parser.add_argument(
        "--workflows", action="store_true", help="draw worlds of workflows, too"
    )
    parser.add_argument(
        "--rooms",
        action="store_true",
        help="draw worlds of schedules, questions, pools, alerts and so on, too",
    )
    parser.add_argument("--jobs", type=_natural, default=1, help="processes at once")
    parser.add_argument(
        "--keep-going", action="store_true", help="do not end at the first failure"
    )
    options = parser.parse_args(argv)
    end = monotonic() + options.minutes * 60
    last = options.seed - 1
    failed = 0
    for seed, failure in _results(options, end):
        last = max(last, seed)
        if failure is not None:
            failed += 1
            _say(f"{failure}\n\n{failure.traceback}")
            if not options.keep_going:
                break
    if last < options.seed:
        _say("no seed was run")
    else:
        _say(f"seeds {options.seed} to {last}: {failed} failed")
    return 1 if failed else 0


def _natural(text: str) -> int:
    if not text.isdecimal():
        msg = f"{text!r} is not a whole number of 0 or more"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _results(
    options: argparse.Namespace, end: float
) -> Iterator[tuple[int, FailedRun | None]]:
    """Seeds and what came of them, until it is time."""
    seed: int = options.seed
    stop = None if options.seeds is None else seed + options.seeds
    search = partial(
        _search, steps=options.steps, workflows=options.workflows, rooms=options.rooms
    )
    if options.jobs <= 1:
        while monotonic() < end and seed != stop:
            yield seed, search(seed)
            seed += 1
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        under_way: dict[Future[FailedRun | None], int] = {}
        while True:
            while len(under_way) < options.jobs and monotonic() < end and seed != stop:
                under_way[pool.submit(search, seed)] = seed
                seed += 1
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=under_way.__getitem__):
                yield under_way.pop(future), future.result()


def _search(seed: int, *, steps: int, workflows: bool, rooms: bool) -> FailedRun | None:
    """What fails in the worlds of a seed."""
    failure = find_failure(seed, steps)
    if failure is None and workflows:
        failure = find_failure(seed, steps, workflows=True)
    if failure is None and rooms:
        failure = find_failure(seed, steps, rooms=True)
    return failure


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
