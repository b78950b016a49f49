"""
Pools as a configuration has them: the block `resource_pools` of a YAML file.

    pools = resource_pools.load("orchestrator.yaml")
    orch = TaskOrchestrator(resources=pools.resources, allocator=pools.allocator)

Each `NAME_total` is a pool; `thread_pool.max_threads` is the pool `threads`, and
`allocation_algorithm.min_chunk` the pieces in which elastic requests are granted. All
else in the file has no effect; `Pools.without_effect` names it, and the log does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._visible import visible
from taskorch.errors import InvalidTaskError
from taskorch.model import Resources
from taskorch.model._show import show
from taskorch.policies import ProportionalAllocator
from taskorch.workflows._located import plain

if TYPE_CHECKING:
    import os

__all__ = ("Pools", "load", "parse")

_LOG: Final = logging.getLogger(__name__)
#: What does what other sections of such a file ask for.
_INSTEAD: Final = {
    "job_intake_pipeline.payload_contract": "policies.JsonSchemaValidator checks it",
    "job_intake_pipeline.api_endpoint": "frontends.service has paths of its own",
    "job_intake_pipeline.classification_engine": "policies.ScoreQueue orders by scores",
    "tadpole_execution.multithreading": "pools and the concurrency of agents bound it",
    "job_lifecycle.states": "policies.FourStateMachine calls states so",
    "job_lifecycle.state_transitions": "orch.signals has an event for each",
    "job_lifecycle.telemetry_topics": "orch.signals has an event for each",
    "resource_pools.allocation_algorithm.audit_logging": (
        "the ledger is the events of the orchestrator: orch.signals"
    ),
}
_NOTHING: Final = "nothing here acts on it"
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
        without_effect: What stands there and has no effect: its name, and what does
            that instead.
    """

    resources: Resources
    allocator: ProportionalAllocator
    fallback: str = "best_effort"
    without_effect: Mapping[str, str] = attrs.field(factory=dict, hash=False)


def load(path: str | os.PathLike[str]) -> Pools:
    """
    Read the block `resource_pools` of a YAML file.

    What else is in it has no effect: see `Pools.without_effect`.

    Raises:
        ImportError: PyYAML is not installed: `pip install 'taskorch[yaml]'`.
        InvalidTaskError: There is no such block, or it is not well formed.
        ValidationFailedError: The file is no YAML.
        OSError: It cannot be read.
    """
    from taskorch.workflows._yaml import load as load_yaml  # noqa: PLC0415 - optional

    text = Path(path).read_text(encoding="utf-8")
    found = plain(load_yaml(text, "the resource pools", file=str(path)))
    if not isinstance(found, Mapping) or "resource_pools" not in found:
        names = [str(name) for name in found] if isinstance(found, Mapping) else []
        near = get_close_matches("resource_pools", names)
        there = f", and there is {near[0]}" if near else ""
        msg = f"{path}: there is no block resource_pools{there}"
        raise InvalidTaskError(msg)
    pools = parse(found["resource_pools"])
    others = {name: said for name, said in found.items() if name != "resource_pools"}
    idle = {name: _INSTEAD.get(name, _NOTHING) for name in _parts(others)}
    pools = attrs.evolve(pools, without_effect={**idle, **pools.without_effect})
    if pools.without_effect:
        lines = [f"{name} ({why})" for name, why in pools.without_effect.items()]
        _LOG.warning("%s: without effect: %s", path, visible("; ".join(lines)))
    return pools


def _parts(sections: Mapping[object, object]) -> Iterator[str]:
    """The names of sections, or of what is in them."""
    for name, said in sections.items():
        inner = said if isinstance(said, Mapping) and said else ()
        yield from (f"{name}.{key}" for key in inner) if inner else (str(name),)


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
        _refuse_rest(inner, threads, ("max_threads", *_THREADS))
    chunks: Mapping[str, float] | None = None
    fallback = _FALLBACKS[0]
    idle: dict[str, str] = {}
    if "allocation_algorithm" in left:
        inner = f"{where}.allocation_algorithm"
        algorithm = _mapping(inner, left.pop("allocation_algorithm"))
        fallback = algorithm.pop("fallback_policy", fallback)
        _one_of(f"{inner}.fallback_policy", fallback, _FALLBACKS)
        if "audit_logging" in algorithm:
            del algorithm["audit_logging"]
            idle[f"{inner}.audit_logging"] = _INSTEAD[f"{inner}.audit_logging"]
        if "min_chunk" in algorithm:
            chunks = _mapping(f"{inner}.min_chunk", algorithm.pop("min_chunk"))
        names = ("fallback_policy", "min_chunk", "audit_logging")
        _refuse_rest(inner, algorithm, names)
    sections = ("thread_pool", "allocation_algorithm")
    _refuse_rest(where, left, (*sections, *(name + _TOTAL for name in left)))
    resources = Resources.of(amounts, where)
    for name, size in Resources.of(chunks or {}, "min_chunk").items():
        if size > resources[name]:
            msg = (
                f"min_chunk: a chunk of {name} is {size:g}, and there is "
                f"{resources[name]:g}"
            )
            raise InvalidTaskError(msg)
    return Pools(resources, ProportionalAllocator(chunks), fallback, idle)


def _mapping(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        msg = f"{where}: a mapping is needed, not {show(value)}"
        raise InvalidTaskError(msg)
    return {str(name): each for name, each in value.items()}


def _one_of(where: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"{where} is {show(value)}, and {' or '.join(known)} is known"
        raise InvalidTaskError(msg)


def _refuse_rest(where: str, left: Mapping[str, Any], known: Iterable[str]) -> None:
    if left:
        names = tuple(known)
        near = [n for name in left for n in get_close_matches(name, names, 1, 0.5)]
        meant = f": did you mean {', '.join(near)}?" if near else ""
        msg = f"{where}: {', '.join(left)} is not known here{meant}"
        raise InvalidTaskError(msg)
