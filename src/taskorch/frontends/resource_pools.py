"""
Pools as a configuration has them: the block `resource_pools` of a YAML file.

    pools = resource_pools.load("orchestrator.yaml")
    orch = TaskOrchestrator(resources=pools.resources, allocator=pools.allocator)

Each `NAME_total` is a pool; `thread_pool.max_threads` is the pool `threads`, and
`allocation_algorithm.min_chunk` the pieces in which elastic requests are granted. The
ledger is the events of the orchestrator, whatever `audit_logging` calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.model import Resources
from taskorch.model._show import show
from taskorch.policies import ProportionalAllocator

if TYPE_CHECKING:
    import os

__all__ = ("Pools", "load", "parse")

_TOTAL: Final = "_total"
#: What may be said of a block besides amounts, and the only thing that it may be.
_THREADS: Final = {
    "allocation_strategy": ("proportional_chunking",),
    "adaptive_throttling": ("disabled",),
}
_FALLBACKS: Final = ("best_effort", "all_or_nothing")


@attrs.frozen
class Pools:
    """
    What a configuration says of pools.

    Attributes:
        resources: The pools, for `TaskOrchestrator(resources=…)`.
        allocator: Divides them, for `TaskOrchestrator(allocator=…)`.
        fallback: What elastic requests are to fall back on: `Elastic(…, fallback=…)`.
    """

    resources: Resources
    allocator: ProportionalAllocator
    fallback: str = "best_effort"


def load(path: str | os.PathLike[str]) -> Pools:
    """
    Read the block `resource_pools` of a YAML file, whatever else is in it.

    Raises:
        ImportError: PyYAML is not installed: `pip install 'taskorch[yaml]'`.
        InvalidTaskError: There is no such block, or it is not well formed.
        ValidationFailedError: The file is no YAML.
        OSError: It cannot be read.
    """
    from taskorch.workflows._yaml import load as load_yaml  # noqa: PLC0415 - optional

    found = load_yaml(Path(path).read_text(encoding="utf-8"))
    if not isinstance(found, Mapping) or "resource_pools" not in found:
        msg = f"{path}: there is no block resource_pools"
        raise InvalidTaskError(msg)
    return parse(found["resource_pools"])


def parse(block: Mapping[str, Any]) -> Pools:
    """
    What the block `resource_pools` says, as YAML or JSON has it.

    Raises:
        InvalidTaskError: It is not well formed; the message names the key.
    """
    where = "resource_pools"
    left = _mapping(where, block)
    amounts = {
        name.removesuffix(_TOTAL): left.pop(name)
        for name in list(left)
        if name.endswith(_TOTAL)
    }
    if "thread_pool" in left:
        inner = f"{where}.thread_pool"
        threads = _mapping(inner, left.pop("thread_pool"))
        if "max_threads" in threads:
            amounts["threads"] = threads.pop("max_threads")
        for name, known in _THREADS.items():
            _one_of(f"{inner}.{name}", threads.pop(name, known[0]), known)
        _refuse_rest(inner, threads)
    chunks: Mapping[str, float] | None = None
    fallback = _FALLBACKS[0]
    if "allocation_algorithm" in left:
        inner = f"{where}.allocation_algorithm"
        algorithm = _mapping(inner, left.pop("allocation_algorithm"))
        fallback = algorithm.pop("fallback_policy", fallback)
        _one_of(f"{inner}.fallback_policy", fallback, _FALLBACKS)
        algorithm.pop("audit_logging", None)
        if "min_chunk" in algorithm:
            chunks = _mapping(f"{inner}.min_chunk", algorithm.pop("min_chunk"))
        _refuse_rest(inner, algorithm)
    _refuse_rest(where, left)
    resources = Resources.of(amounts, where)
    for name, size in Resources.of(chunks or {}, "min_chunk").items():
        if size > resources[name]:
            msg = (
                f"min_chunk: a chunk of {name} is {size:g}, and there is "
                f"{resources[name]:g}"
            )
            raise InvalidTaskError(msg)
    return Pools(resources, ProportionalAllocator(chunks), fallback)


def _mapping(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        msg = f"{where}: a mapping is needed, not {show(value)}"
        raise InvalidTaskError(msg)
    return {str(name): each for name, each in value.items()}


def _one_of(where: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"{where} is {show(value)}, and {' or '.join(known)} is known"
        raise InvalidTaskError(msg)


def _refuse_rest(where: str, left: Mapping[str, Any]) -> None:
    if left:
        msg = f"{where}: {', '.join(left)} is not known here"
        raise InvalidTaskError(msg)
