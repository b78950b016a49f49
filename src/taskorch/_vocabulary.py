"""
Other words for resources, retries and dependencies: what they are called here.

Decision: 0109.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from itertools import islice
from typing import Final

#: Other names of resources: the name here, and by how much an amount is multiplied.
OTHER_RESOURCES: Final[Mapping[str, tuple[str, float]]] = {
    **dict.fromkeys(("cpus", "cpu_cores", "cores", "num_cpus", "vcpus"), ("cpu", 1)),
    **dict.fromkeys(("gpus", "num_gpus"), ("gpu", 1)),
    **dict.fromkeys(("memory_gb", "mem_gb", "ram_gb"), ("memory_mb", 1024)),
    **dict.fromkeys(("mem_mb", "ram_mb"), ("memory_mb", 1)),
    "disk_gb": ("disk_mb", 1024),
}
_CPU: Final = ("cpu", "cpu_cores", "max_cpu_per_agent", "total_cpu_cores", "resources")
_MEMORY: Final = (
    *("memory_mb", "memory_gb", "max_memory_gb", "total_memory_mb", "resources"),
)
_RETRIES: Final = ("retry", "max_attempts", "max_retries", "retries")
_AFTER: Final = ("after", "dependencies")
_CONCURRENCY: Final = ("concurrency", "max_concurrency", "max_parallel")
#: Words of others, and what may be meant, the likeliest first: what there is, is it.
_MEANT: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("cpu", "cpus", "cpu_cores", "cores", "num_cpus", "vcpus"), _CPU),
    **dict.fromkeys(("max_cpu", "max_cpus", "max_cpu_cores", "total_cpu"), _CPU),
    **dict.fromkeys(("memory_mb", "memory_gb", "memory", "mem", "ram"), _MEMORY),
    **dict.fromkeys(("mem_mb", "mem_gb", "ram_mb", "ram_gb", "max_memory"), _MEMORY),
    **dict.fromkeys(("gpu", "gpus", "num_gpus"), ("gpu", "resources")),
    **dict.fromkeys(("disk", "disk_gb"), ("disk_mb", "resources")),
    **dict.fromkeys((*_RETRIES, "attempts", "tries", "max_tries"), _RETRIES),
    **dict.fromkeys(("depends_on", "needs", "blocked_by", "dependencies"), _AFTER),
    **dict.fromkeys(("workers", "max_workers", "num_workers", "n_jobs"), _CONCURRENCY),
    **dict.fromkeys(("db", "database", "db_path", "storage"), ("journal",)),
    **dict.fromkeys(("backoff", "retry_delay"), ("base", "retry")),
    "delay": ("base", "not_before"),
    **dict.fromkeys(("exceptions", "retry_exceptions"), ("retry_on",)),
}
#: Names among which a slip of the pen is looked for.
_MANY: Final = 1_000


def others_words(choices: Container[str]) -> dict[str, str]:
    """The words of others for some of *choices*, and which of these each means."""
    means = {
        word: next((name for name in names if name in choices), None)
        for word, names in _MEANT.items()
    }
    return {word: name for word, name in means.items() if name is not None}


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of *choices* that *name* may mean, if one can be told."""
    from difflib import get_close_matches  # noqa: PLC0415 - for errors

    names = list(islice(choices, _MANY))
    if name in _MEANT:
        # It means that alone: a gpu is no cpu.
        return next((meant for meant in _MEANT[name] if meant in names), None)
    return next(iter(get_close_matches(name, names, n=1, cutoff=cutoff)), None)


def meant(name: object, choices: Iterable[str], otherwise: str = "") -> str:
    """The question whether the nearest of *choices* was meant, or else *otherwise*."""
    near = nearest(str(name), choices)
    return f"did you mean {str(near)!r}?" if near else otherwise
