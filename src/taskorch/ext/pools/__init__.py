"""
Pools as a configuration has them: the block `resource_pools` of a YAML file.

    pools = resource_pools.load("orchestrator.yaml")
    orch = TaskOrchestrator(resources=pools.resources, allocator=pools.allocator)

Each `NAME_total` is a pool; `thread_pool.max_threads` is the pool `threads`, and
`allocation_algorithm.min_chunk` the pieces in which elastic requests are granted. All
else in the file has no effect; `Pools.without_effect` names it, and the log does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.fence import log_of
from taskorch.kit.forms import (
    WRONG,
    AnyNames,
    Anything,
    DocumentOf,
    FaultList,
    Number,
    ReadMapping,
    field,
    keys_of,
    one_of,
)
from taskorch.kit.located import Located, located, plain
from taskorch.kit.visible import visible
from taskorch.model import FALLBACKS, Resources
from taskorch.policies import ProportionalAllocator

if TYPE_CHECKING:
    import os

__all__ = ("Pools", "load", "parse")

_LOG: Final = log_of(__name__)
#: For each key without effect: the part of taskorch that does this instead.
_INSTEAD: Final = {
    "job_intake_pipeline.payload_contract": "policies.JsonSchemaValidator checks it",
    "job_intake_pipeline.api_endpoint": "ext.service has paths of its own",
    "job_intake_pipeline.classification_engine": "policies.ScoreQueue orders by scores",
    "tadpole_execution.multithreading": "pools and the concurrency of workers bound it",
    "job_lifecycle.states": "policies.FourStateMachine calls states so",
    "job_lifecycle.state_transitions": "orch.signals has an event for each",
    "job_lifecycle.telemetry_topics": "orch.signals has an event for each",
    "resource_pools.allocation_algorithm.audit_logging": (
        "the ledger is the events of the orchestrator: orch.signals"
    ),
}
_NOTHING: Final = "nothing here acts on it"
_BLOCK: Final = "resource_pools"
_DIVISION: Final = "allocation_algorithm"
_TOTAL: Final = "_total"


@attrs.frozen
class ThreadsEntry:
    """
    The pool `threads`.

    Attributes:
        max_threads: The number of threads.
        allocation_strategy: `proportional_chunking`: shares are whole chunks.
        adaptive_throttling: `disabled`: nothing slows the starts of tasks.
    """

    max_threads: Any = field(Number())
    allocation_strategy: Any = field(
        one_of("proportional_chunking"), default="proportional_chunking"
    )
    adaptive_throttling: Any = field(one_of("disabled"), default="disabled")


@attrs.frozen
class DivisionEntry:
    """
    Shares of elastic requests.

    Attributes:
        fallback_policy: The rule for a request if less than the whole of it is free.
        min_chunk: The size of a piece of each pool to divide, by the pool's name.
        audit_logging: It has no effect.
    """

    fallback_policy: Any = field(one_of(*FALLBACKS), default=FALLBACKS[0])
    min_chunk: Any = field(AnyNames(Number(is_above=True)))
    audit_logging: Any = field(Anything())


@attrs.frozen
class PoolsEntry:
    """
    The block of pools, besides each `NAME_total`.

    Attributes:
        thread_pool: The pool `threads`.
        allocation_algorithm: Shares of elastic requests.
    """

    thread_pool: Any = field(DocumentOf(ThreadsEntry, nulls=True))
    allocation_algorithm: Any = field(DocumentOf(DivisionEntry, nulls=True))


@attrs.frozen
class Pools:
    """
    The pools of a configuration.

    Attributes:
        resources: The pools, for `TaskOrchestrator(resources=…)`.
        allocator: Divides them, for `TaskOrchestrator(allocator=…)`.
        fallback: The fallback for elastic requests: `Elastic(…, fallback=…)`.
        without_effect: The keys without effect, each with the part of taskorch that
            does this instead.
    """

    resources: Resources
    allocator: ProportionalAllocator
    fallback: str = "best_effort"
    without_effect: Mapping[str, str] = attrs.field(factory=dict, hash=False)


def load(path: str | os.PathLike[str]) -> Pools:
    """
    Read the block `resource_pools` of a YAML file.

    Its other entries have no effect: see `Pools.without_effect`.

    Raises:
        ImportError: PyYAML is not installed: `pip install 'taskorch[yaml]'`.
        InvalidTaskError: There is no such block, or it is not well formed: all that
            is wrong is named, with its line and column.
        ValidationFailedError: The file is no YAML.
        OSError: It cannot be read.
    """
    from taskorch.kit.yaml_text import load as load_yaml  # noqa: PLC0415 - optional

    text = Path(path).read_bytes()
    node = load_yaml(text, "the resource pools", file=str(path))
    sections = dict(node.value) if isinstance(node.value, dict) else {}
    if _BLOCK not in sections:
        near = get_close_matches(_BLOCK, sections)
        hint = f", and there is {near[0]}" if near else ""
        msg = f"{path}: there is no block {_BLOCK}{hint}"
        raise InvalidTaskError(msg)
    pools = _parse(sections.pop(_BLOCK)[1])
    others = {name: plain(value) for name, (_, value) in sections.items()}
    idle = {name: _INSTEAD.get(name, _NOTHING) for name in _parts(others)}
    pools = attrs.evolve(pools, without_effect={**idle, **pools.without_effect})
    if pools.without_effect:
        lines = [f"{name} ({why})" for name, why in pools.without_effect.items()]
        _LOG.warning("%s: without effect: %s", path, visible("; ".join(lines)))
    return pools


def _parts(sections: Mapping[object, object]) -> Iterator[str]:
    """Yield the names of sections, or of their entries."""
    for name, section in sections.items():
        inner = section if isinstance(section, Mapping) and section else ()
        yield from (f"{name}.{key}" for key in inner) if inner else (str(name),)


def parse(block: Mapping[str, Any]) -> Pools:
    """
    Read the pools from the block `resource_pools`, as YAML or JSON has it.

    Raises:
        InvalidTaskError: It is not well formed; the message names all that is wrong.
    """
    return _parse(located(block))


def _parse(block: Located) -> Pools:
    faults = FaultList()
    amounts: dict[str, float] = {}

    def total(key: Located, value: Located) -> None:
        name = str(key.value)
        if name.endswith(_TOTAL):
            amount = Number().read(value, f"{_BLOCK}.{name}", faults)
            if amount is not WRONG:
                amounts[name.removesuffix(_TOTAL)] = amount
        else:
            faults.unknown(key, _BLOCK, (*keys_of(PoolsEntry), f"{name}{_TOTAL}"))

    form = DocumentOf(PoolsEntry, nulls=True, others=total)
    if block.value is None:
        faults.wrong(block, _BLOCK, form.needs)
    entry = form.read(block, _BLOCK, faults)
    nothing = ReadMapping({}, {}, block.place)
    if entry is WRONG:
        entry = nothing
    threads, division = entry.get("thread_pool", nothing), entry.get(_DIVISION, nothing)
    most = threads.get("max_threads", amounts.get("threads"))
    if most is not None and amounts.setdefault("threads", most) != most:
        text = f"there are {amounts['threads']:g} by threads_total, and {most:g} here"
        path = f"{_BLOCK}.thread_pool.max_threads"
        faults.add(threads.at("max_threads"), text, path)
    resources = Resources()
    try:
        resources = Resources.of(amounts)
    except InvalidTaskError as error:
        faults.raised(error, block.place, _BLOCK)
    allocator = _allocator(division, resources, faults)
    if faults:
        raise InvalidTaskError("; ".join(faults.lines))
    audit = f"{_BLOCK}.{_DIVISION}.audit_logging"
    idle = {audit: _INSTEAD[audit]} if "audit_logging" in division.values else {}
    fallback = division.get("fallback_policy", FALLBACKS[0])
    return Pools(resources, allocator, fallback, idle)


def _allocator(
    division: ReadMapping, resources: Resources, faults: FaultList
) -> ProportionalAllocator:
    """Return an allocator that divides *resources* in the pieces of *division*."""
    pieces = division.get("min_chunk")
    if pieces is None:
        return ProportionalAllocator()
    path = f"{_BLOCK}.{_DIVISION}.min_chunk"
    for name, size in pieces.values.items():
        if size > (whole := resources.get(name, 0.0)):
            text = f"a chunk of {name} is {size:g}, and there is {whole:g}"
            faults.add(pieces.at(name), text, f"{path}.{name}")
    try:
        return ProportionalAllocator(pieces.values)
    except InvalidTaskError as error:
        faults.raised(error, pieces.place, path)
        return ProportionalAllocator()
