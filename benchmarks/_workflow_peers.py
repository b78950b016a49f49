"""
The graph that workflows are measured with, and what dask takes for it.

It is drawn from a seed, so that all have the same.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from random import Random
from time import process_time

from benchmarks._workloads import CONCURRENCY

WIDTH = 100
MOST_PARENTS = 3

_WARM = 1_000


def layered(count: int) -> Iterator[tuple[int, ...]]:
    """
    Of each of `count` tasks, the tasks that it waits for, by their numbers.

    They stand in layers of a hundred; each waits for one to three of the layer before
    its own.
    """
    random = Random(1)
    for number in range(count):
        above = number - number % WIDTH - WIDTH
        if above < 0:
            yield ()
            continue
        picks = random.randint(1, MOST_PARENTS)
        yield tuple({above + random.randrange(WIDTH): None for _ in range(picks)})


def noop_of(*results: object) -> None:
    """Do nothing with the results of other tasks: an edge of dask's is an argument."""


def dask_get(count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops through `dask.threaded.get`, with as many threads as tasks of ours."""
    from dask.threaded import get  # pyright: ignore[reportMissingImports]

    while True:
        get(*_asked(_WARM), num_workers=CONCURRENCY)
        asked = _asked(count)
        gc.collect()
        began = process_time()
        get(*asked, num_workers=CONCURRENCY)
        yield {"cpu": process_time() - began}


def _asked(count: int) -> tuple[dict[str, tuple[object, ...]], list[str]]:
    """The graph as dask takes it, and the tasks whose results nobody else takes."""
    graph: dict[str, tuple[object, ...]] = {}
    last: dict[str, None] = {}
    for number, above in enumerate(layered(count)):
        names = [f"t{parent}" for parent in above]
        graph[f"t{number}"] = (noop_of, *names)
        last[f"t{number}"] = None
        for name in names:
            last.pop(name, None)
    return graph, list(last)
