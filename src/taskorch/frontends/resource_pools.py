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

from taskorch._base.visible import visible
from taskorch._documents.located import FilePlace, places, plain, with_place
from taskorch.errors import InvalidTaskError
from taskorch.model import Resources, show
from taskorch.policies import ProportionalAllocator

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
        InvalidTaskError: There is no such block, or it is not well formed: all that
            is wrong is named, with its line and column.
        ValidationFailedError: The file is no YAML.
        OSError: It cannot be read.
    """
    from taskorch._documents.yaml_text import load as load_yaml  # noqa: PLC0415 - optional

    text = Path(path).read_bytes()
    node = load_yaml(text, "the resource pools", file=str(path))
    document = plain(node)
    if not isinstance(document, Mapping) or "resource_pools" not in document:
        names = (
            [str(name) for name in document] if isinstance(document, Mapping) else []
        )
        near = get_close_matches("resource_pools", names)
        hint = f", and there is {near[0]}" if near else ""
        msg = f"{path}: there is no block resource_pools{hint}"
        raise InvalidTaskError(msg)
    pools = _parse(document["resource_pools"], dict(places(node)))
    others = {
        name: value for name, value in document.items() if name != "resource_pools"
    }
    idle = {name: _INSTEAD.get(name, _NOTHING) for name in _parts(others)}
    pools = attrs.evolve(pools, without_effect={**idle, **pools.without_effect})
    if pools.without_effect:
        lines = [f"{name} ({why})" for name, why in pools.without_effect.items()]
        _LOG.warning("%s: without effect: %s", path, visible("; ".join(lines)))
    return pools


def _parts(sections: Mapping[object, object]) -> Iterator[str]:
    """The names of sections, or of what is in them."""
    for name, section in sections.items():
        inner = section if isinstance(section, Mapping) and section else ()
        yield from (f"{name}.{key}" for key in inner) if inner else (str(name),)


def parse(block: Mapping[str, Any]) -> Pools:
    """
    What the block `resource_pools` says, as YAML or JSON has it.

    Raises:
        InvalidTaskError: It is not well formed; the message names all that is wrong.
    """
    return _parse(block, {})


def _parse(block: object, by_path: Mapping[str, FilePlace]) -> Pools:
    """What the *block* says; *by_path* are the places of what stands in its file."""
    reader = _PoolReader()
    pools = reader.pools(block)
    if reader.faults:
        lines = (with_place(path, text, by_path) for path, text in reader.faults)
        raise InvalidTaskError("; ".join(lines))
    return pools


class _PoolReader:
    """Reads a block, and notes all that is wrong with it, by its path."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []

    def pools(self, block: object) -> Pools:
        where = "resource_pools"
        rest = self._mapping(where, block)
        amounts = {
            name.removesuffix(_TOTAL): rest.pop(name)
            for name in list(rest)
            if name.endswith(_TOTAL)
        }
        inner = f"{where}.thread_pool"
        threads = self._mapping(inner, rest.pop("thread_pool", {}))
        if "max_threads" in threads:
            amounts["threads"] = threads.pop("max_threads")
        for name, choices in _THREADS.items():
            self._one_of(f"{inner}.{name}", threads.pop(name, choices[0]), choices)
        self._refuse_rest(inner, threads, ("max_threads", *_THREADS))
        inner = f"{where}.allocation_algorithm"
        algorithm = self._mapping(inner, rest.pop("allocation_algorithm", {}))
        fallback = algorithm.pop("fallback_policy", _FALLBACKS[0])
        self._one_of(f"{inner}.fallback_policy", fallback, _FALLBACKS)
        unheard = f"{inner}.audit_logging"
        says_so = algorithm.pop("audit_logging", None) is not None
        idle = {unheard: _INSTEAD[unheard]} if says_so else {}
        chunks = None
        if "min_chunk" in algorithm:
            chunks = self._mapping(f"{inner}.min_chunk", algorithm.pop("min_chunk"))
        names = ("fallback_policy", "min_chunk", "audit_logging")
        self._refuse_rest(inner, algorithm, names)
        sections = ("thread_pool", "allocation_algorithm")
        self._refuse_rest(where, rest, (*sections, *(name + _TOTAL for name in rest)))
        resources = self._amounts(where, amounts)
        least = self._amounts(f"{inner}.min_chunk", chunks or {})
        for name, size in least.items():
            if size > resources.get(name, 0.0):
                limit = f"{resources.get(name, 0.0):g}"
                text = f"a chunk of {name} is {size:g}, and there is {limit}"
                self.faults.append((f"{inner}.min_chunk.{name}", text))
        if self.faults:
            return Pools(resources, ProportionalAllocator())
        try:
            allocator = ProportionalAllocator(chunks)
        except InvalidTaskError as error:
            self.faults.append((f"{inner}.min_chunk", error.message))
            allocator = ProportionalAllocator()
        return Pools(resources, allocator, fallback, idle)

    def _amounts(self, where: str, amounts: Mapping[str, Any]) -> Resources:
        try:
            return Resources.of(amounts, where)
        except InvalidTaskError as error:
            self.faults.append((where, error.message.removeprefix(f"{where}: ")))
            return Resources()

    def _mapping(self, where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self.faults.append((where, f"a mapping is needed, not {show(value)}"))
            return {}
        return {str(name): each for name, each in value.items()}

    def _one_of(self, where: str, value: object, choices: tuple[str, ...]) -> None:
        if value not in choices:
            name, words = where.rpartition(".")[2], " or ".join(choices)
            text = f"{name} is {show(value)}, and {words} is known"
            self.faults.append((where, text))

    def _refuse_rest(
        self, where: str, rest: Mapping[str, Any], allowed: Iterable[str]
    ) -> None:
        names = tuple(allowed)
        for name in rest:
            near = get_close_matches(name, names, 1, 0.5)
            meant = f": did you mean {near[0]}?" if near else ""
            self.faults.append((f"{where}.{name}", f"{name} is not known here{meant}"))
