"""Reads the files of a configuration, and says all that is wrong with them at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.frontends.suite import _keys, _tasks
from taskorch.frontends.suite._faults import Faults
from taskorch.frontends.suite._kinds import WHOLE, Entry
from taskorch.frontends.suite._merge import merged
from taskorch.frontends.suite._model import Limits, Monitoring, Retries, Suite
from taskorch.frontends.suite._placeholders import check_templates
from taskorch.frontends.suite._without_effect import note_all
from taskorch.model import Resources
from taskorch.recovery import AlertRule
from taskorch.workflows._located import Located, Place

#: Bytes of a file: more than people write by hand.
_MAX_SIZE: Final = 1 << 20
#: What two sections of a configuration may both say.
_SHARED: Final = (
    ("failure_handling", "recovery", "max_retries"),
    ("failure_handling", "recovery", "retry_delay_seconds"),
    ("failure_handling", "recovery", "escalation_threshold"),
    ("agent_limits", "agent_pool", "max_agents"),
)


def load(*paths: str | os.PathLike[str]) -> Suite:
    """
    Read a suite from one file, or from several that say it together.

    Each file may hold several YAML documents. What is said twice must agree.

    Args:
        paths: The files. Folders in them are relative to the first one.

    Raises:
        OSError: A file cannot be read.
        ImportError: PyYAML is not installed.
        InvalidTaskError: No file is named.
        ValidationFailedError: Something in them is wrong; `findings` has all of it,
            each with its `file:line:column`.
    """
    if not paths:
        msg = "no file of a configuration is named"
        raise InvalidTaskError(msg, hint="load('orchestrator_config.yaml')")
    faults = Faults()
    documents: list[Located] = []
    for path in paths:
        documents += _documents(Path(path), faults)
    whole = merged(documents, faults)
    if whole is None:
        faults.refuse()
        whole = Located({}, Place(str(paths[0]), 1, 1))
    entry = _keys.CONFIGURATION.read(whole, WHOLE, faults)
    suite = Suite()
    if entry is not None:
        suite = _suite(entry, Path(paths[0]).parent, faults)
    faults.refuse()
    return suite


def _documents(path: Path, faults: Faults) -> list[Located]:
    with path.open("rb") as file:
        text = file.read(_MAX_SIZE + 1)
    try:
        from taskorch.workflows import _yaml  # noqa: PLC0415 - optional
    except ImportError as error:
        msg = "a suite is written in YAML: pip install 'taskorch[suite]'"
        raise ImportError(msg, name="yaml") from error
    where = Place(str(path), 1, 1)
    if len(text) > _MAX_SIZE:
        faults.add(where, f"it has more than the {_MAX_SIZE:,} bytes that are read")
        return []
    try:
        found, wrong = _yaml.read(text.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        faults.add(where, f"it is no UTF-8 text: byte {error.start:,} is not")
        return []
    for place, what in wrong:
        faults.add(place, what)
    return [] if wrong else found


def _suite(whole: Entry, folder: Path, faults: Faults) -> Suite:
    said = {name: _section(whole, name) for name in _keys.CONFIGURATION.keys}
    for first, second, key in _SHARED:
        if key in said[first].values and key in said[second].values:
            mine, its = said[first], said[second]
            if mine.get(key) != its.get(key):
                faults.disagree(key, mine.node(key), its.node(key))
    about, pool = said["orchestrator"], said["agent_pool"]
    limits = _limits(said["agent_limits"], pool, faults)
    templates = check_templates(said["templates"], folder, faults)
    phases, missing = _tasks.phases(said, templates, limits, faults)
    notes = Faults()
    note_all(said, notes)
    failures, recovery = said["failure_handling"], said["recovery"]
    watch = {**said["monitoring"].values, **_taken(about, "api_port", "metrics_port")}
    watch |= _taken(about, "log_level") | _taken(pool, "agent_timeout")
    return Suite(
        name=about.get("name", "suite"),
        version=about.get("version", ""),
        phases=phases,
        templates=templates,
        limits=limits,
        retries=Retries(
            max_retries=_either(failures, recovery, "max_retries", 0),
            delay=_either(failures, recovery, "retry_delay_seconds", 0.0),
            escalation_threshold=_either(
                failures, recovery, "escalation_threshold", None
            ),
            grace=failures.get("timeout_grace_period", Retries().grace),
        ),
        monitoring=Monitoring(
            **watch, **_taken(recovery, "human_notification_webhook")
        ),
        recovery=bool(recovery.nodes),
        alerts=_alerts(said["alerts"], faults) if "alerts" in whole.nodes else None,
        missing=missing,
        without_effect=notes.findings,
    )


def _alerts(said: Entry, faults: Faults) -> dict[str, AlertRule | None]:
    found: dict[str, AlertRule | None] = {}
    for name, fields in said.values.items():
        if not isinstance(fields, Entry):
            found[name] = None
            continue
        try:
            found[name] = AlertRule.of(name, **fields.values)
        except InvalidTaskError as error:
            faults.add(fields.place, f"alerts.{name}: {error}")
    return found


def _section(whole: Entry, name: str) -> Entry:
    found: Entry = whole.get(name, Entry({}, {}, whole.place))
    return found


def _taken(entry: Entry, *names: str) -> dict[str, Any]:
    return {name: entry.get(name) for name in names if name in entry.values}


def _either(first: Entry, second: Entry, name: str, default: Any) -> Any:
    return first.get(name, second.get(name, default))


def _limits(limits: Entry, pool: Entry, faults: Faults) -> Limits:
    most = _either(limits, pool, "max_agents", None)
    least = pool.get("min_agents", 1)
    if most is not None and least > most:
        where = limits if "max_agents" in limits.values else pool
        what = (
            f"min_agents is {least}, and max_agents {most} at {where.at('max_agents')}"
        )
        faults.add(pool.at("min_agents"), what)
    names = {"cpu": "total_cpu_cores", "memory_mb": "total_memory_mb"}
    held = {
        ours: limits.get(name) for ours, name in names.items() if name in limits.values
    }
    return Limits(least, most, Resources(**held))
