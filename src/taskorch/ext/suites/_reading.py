"""
Reads the files of a configuration, and says all that is wrong with them at once.

What several documents all say must agree. What has no effect is told, not refused.
"""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.budgets._declared import DeclaredBudgets
from taskorch.ext.governance._reading import policies_in
from taskorch.ext.notices.notifying import sender_of
from taskorch.ext.recovery import AlertRule, Grow, default_rules
from taskorch.ext.recovery._classes import class_of
from taskorch.ext.recovery._matrix import rows_of
from taskorch.ext.suites import _keys, _tasks
from taskorch.ext.suites._model import Limits, Monitoring, Retries, Suite
from taskorch.ext.suites._placeholders import check_templates
from taskorch.kit.forms import FaultList, ReadMapping, near
from taskorch.kit.located import FilePlace, Located
from taskorch.kit.visible import counted
from taskorch.kit.vocabulary import meant
from taskorch.model import Resources

#: The most bytes of a file: more than people write by hand.
_MAX_SIZE: Final = 1 << 20
#: The keys that may stand in two sections of a configuration.
_SHARED: Final = (
    *(
        ("failure_handling", "recovery", key)
        for key in (
            *("max_retries", "retry_delay_seconds", "escalation_threshold"),
            *("timeout_grace_period", "rerun_failed_tests"),
        )
    ),
    ("agent_limits", "agent_pool", "max_agents"),
)
#: The fields of ours that have other names in documents, by these names.
_FIELDS: Final = {
    "retry_delay_seconds": "delay",
    "timeout_grace_period": "grace",
    "rerun_failed_tests": "tests_again",
    "scale_up_threshold": "scale_up",
    "scale_down_threshold": "scale_down",
    "settle_seconds": "settle",
}
#: The amounts that may grow after a task of a suite has failed.
_GROWN: Final = (
    *("memory_mb", "cpu_cores", "cpu", "disk_mb", "timeout", "timeout_seconds"),
)
#: The classes of failures that tests find.
_OF_TESTS: Final = frozenset({"logic_error", "calculation_error"})
#: The settings that fit the number of workers to the work.
_SCALES: Final = ("scale_down_threshold", "scale_up_threshold", "settle_seconds")


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
    faults = FaultList()
    documents = [one for path in paths for one in _documents(Path(path), faults)]
    if not documents:
        faults.refuse()
    whole = Located({}, FilePlace(str(paths[0]), 1, 1))
    for number, document in enumerate(documents):
        one = _single(document, faults)
        whole = _both(whole, one, "the document", faults) if number else one
    entry = _keys.CONFIGURATION.read(whole, "", faults)
    suite = Suite()
    if isinstance(entry, ReadMapping):
        suite = _suite(entry, Path(paths[0]).parent, faults)
    faults.refuse()
    return suite


def _documents(path: Path, faults: FaultList) -> list[Located]:
    with path.open("rb") as file:
        text = file.read(_MAX_SIZE + 1)
    try:
        from taskorch.kit import yaml_text  # noqa: PLC0415 - optional
    except ImportError as error:
        msg = "a suite is written in YAML: pip install 'taskorch[suite]'"
        raise ImportError(msg, name="yaml") from error
    where = FilePlace(str(path), 1, 1)
    if len(text) > _MAX_SIZE:
        faults.add(where, f"it has more than the {_MAX_SIZE:,} bytes that are read")
        return []
    try:
        documents, wrong = yaml_text.read(
            text.removeprefix(BOM_UTF8).decode(), str(path)
        )
    except UnicodeDecodeError as error:
        faults.add(where, f"it is no UTF-8 text: byte {error.start:,} is not")
        return []
    for place, message in wrong:
        faults.add(place, message)
    return [] if wrong else documents


# -- several documents as one ----------------------------------------------------------

#: The entries of a mapping or of a list: the place of the name, and the value.
_Entries = dict[str, tuple[Located, Located]]


def _single(node: Located, faults: FaultList) -> Located:
    """Return *node* with dicts as mappings; merge the values of a repeated key."""
    if isinstance(node.value, list):
        return Located([_single(item, faults) for item in node.value], node.place)
    if not isinstance(node.value, tuple):
        return node
    entries: _Entries = {}
    for key, value in node.value:
        _put(entries, key, _single(value, faults), faults)
    return Located(entries, node.place)


def _both(first: Located, second: Located, name: str, faults: FaultList) -> Located:
    """
    Merge *first* and *second*, which are both called *name*.

    Mappings are put together, and so are lists of entries that have an `id`. All else
    that is said twice must be the same.
    """
    if isinstance(first.value, dict) and isinstance(second.value, dict):
        joined: _Entries = dict(first.value)
        for key, value in second.value.values():
            _put(joined, key, value, faults)
        return Located(joined, first.place)
    if _has_ids(first) and _has_ids(second):
        entries: _Entries = {}
        for entry in (*first.value, *second.value):
            _put(entries, entry.value["id"][1], entry, faults)
        return Located([entry for _, entry in entries.values()], first.place)
    if _plain(first) != _plain(second):
        faults.disagree(name, first, second)
    return first


def _put(entries: _Entries, key: Located, value: Located, faults: FaultList) -> None:
    """Add *value* to *entries*, merged with that which has the *key* already."""
    name = key.value
    if name in entries:
        key, before = entries[name]
        value = _both(before, value, name, faults)
    entries[name] = key, value


def _has_ids(node: Located) -> bool:
    return isinstance(node.value, list) and all(
        isinstance(entry.value, dict)
        and "id" in entry.value
        and isinstance(entry.value["id"][1].value, str)
        for entry in node.value
    )


def _plain(node: Located) -> object:
    """Return the value of *node* for a comparison: 1 is 1.0, and not true."""
    value = node.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, (_, item) in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (isinstance(value, bool), value)


# -- the suite that they say -----------------------------------------------------------


def _suite(whole: ReadMapping, folder: Path, faults: FaultList) -> Suite:
    for first, second, key in _SHARED:
        mine, its = whole.part(first), whole.part(second)
        is_twice = key in mine.values and key in its.values
        if is_twice and mine.get(key) != its.get(key):
            faults.disagree(key, mine.node(key), its.node(key))
    about, pool = whole.part("orchestrator"), whole.part("agent_pool")
    recovery = whole.part("recovery")
    matrix = recovery.part("matrix")
    limits = _limits(whole.part("agent_limits"), pool, faults)
    templates = check_templates(whole.part("templates"), folder, faults)
    budgets = DeclaredBudgets.of(whole.part("budgets"), faults)
    phases, missing = _tasks.phases(whole, templates, limits, budgets, faults)
    _check_webhook(recovery, faults)
    _check_grown(matrix, faults)
    notes = FaultList()
    _note_all(whole, notes)
    retries = _fields(Retries, recovery, whole.part("failure_handling"))
    # Failed tests run once more if there are retries, and no row is for them.
    is_again = bool(recovery.nodes) and retries.get("max_retries", 0) > 0
    is_again = is_again and _OF_TESTS.isdisjoint(map(class_of, matrix.values))
    retries.setdefault("tests_again", is_again)
    watched = _fields(Monitoring, whole.part("monitoring"), about, pool, recovery)
    programs = recovery.part("repairs").values
    return Suite(
        **_fields(Suite, about),
        phases=phases,
        templates=templates,
        limits=limits,
        retries=Retries(**retries),
        monitoring=Monitoring(**watched),
        recovery=bool(recovery.nodes),
        matrix=rows_of(matrix),
        classes=tuple(recovery.get("classes", ())),
        repairs={name: tuple(args) for name, args in programs.items()},
        alerts=_alerts(whole.part("alerts"), faults)
        if "alerts" in whole.nodes
        else None,
        missing=missing,
        without_effect=notes.findings,
        budgets=budgets,
        policies=policies_in(whole, folder, faults),
    )


def _fields(cls: type, *sections: ReadMapping) -> dict[str, Any]:
    """Return the fields of *cls* that *sections* say; the latest counts."""
    fields = attrs.fields_dict(cls)
    return {
        name: value
        for section in sections
        for key, value in section.values.items()
        if (name := _FIELDS.get(key, key)) in fields
    }


def _limits(limits: ReadMapping, pool: ReadMapping, faults: FaultList) -> Limits:
    values = {**pool.values, **limits.values}
    least, most = values.get("min_agents", 1), values.get("max_agents")
    if most is not None and least > most:
        where = limits if "max_agents" in limits.values else pool
        message = (
            f"min_agents is {least}, and max_agents {most} at {where.at('max_agents')}"
        )
        faults.add(pool.at("min_agents"), message)
    totals = _tasks.TOTALS.items()
    fleet = Limits(
        **_fields(Limits, pool, limits),
        resources=Resources(**{n: values[key] for n, key in totals if key in values}),
        # More than one to begin with, and no most: so many there are.
        is_pool=any(name in values for name in _SCALES)
        or ("min_agents" in values and most is not None),
    )
    if fleet.scale_down >= fleet.scale_up:
        name = next(name for name in _SCALES if name in values)
        message = f"scale_down_threshold is {fleet.scale_down:g}, and not below "
        message += f"scale_up_threshold, {fleet.scale_up:g}"
        faults.add(pool.at(name), message)
    return fleet


def _check_webhook(recovery: ReadMapping, faults: FaultList) -> None:
    """Check the address of the webhook; send nothing."""
    name, may_be_private = "human_notification_webhook", "webhook_may_be_private"
    if name not in recovery.values:
        return
    is_private = recovery.get(may_be_private, False)
    try:
        sender_of(recovery.get(name), secret=None, allow_private=is_private, timeout=1)
    except InvalidTaskError as error:
        hint = f"{may_be_private}: true allows it"
        hint = hint if "private" in error.hint else error.hint
        faults.add(recovery.at(name), f"{name}: {error.message} ({hint})")


def _check_grown(matrix: ReadMapping, faults: FaultList) -> None:
    """Note what the next attempts shall have more of, and no task of a suite holds."""
    for name, row in matrix.values.items():
        if isinstance(row.get("orchestrator"), Grow):
            _, grow = row.node("orchestrator").value["grow"]
            for word, _ in (grow.value or {}).values():
                if word.value not in _GROWN:
                    path = f"recovery.matrix.{name}.orchestrator.grow"
                    faults.unknown(word, path, _GROWN)


def _alerts(section: ReadMapping, faults: FaultList) -> dict[str, AlertRule | None]:
    rules: dict[str, AlertRule | None] = {}
    usual = [rule.name for rule in default_rules()]
    the_usual = f"those that are watched are {', '.join(usual)}"
    for name, fields in section.values.items():
        if not isinstance(fields, ReadMapping):
            rules[name] = None
            if name not in usual:
                why = f"alerts.{name}: there is no rule of this name to be off"
                faults.add(section.at(name), f"{why} ({meant(name, usual, the_usual)})")
        # Without `when`, that and why has been said.
        elif "when" in fields.values:
            try:
                rules[name] = AlertRule.of(name, **fields.values)
            except InvalidTaskError as error:
                faults.add(fields.place, f"alerts.{name}: {error}")
    return rules


# -- what has no effect ----------------------------------------------------------------


def _note_all(whole: ReadMapping, notes: FaultList) -> None:
    """Note what the configuration has without effect."""
    sections = {name: whole.part(name) for name in ("failure_handling", "recovery")}
    retries = max(section.get("max_retries", 0) for section in sections.values())
    for name, section in sections.items():
        if not retries:
            why = "there are no retries: max_retries says how many"
            _note(section, name, "retry_delay_seconds", why, notes)
        if section.get("escalation_threshold", 0) > 1 + retries:
            attempts = counted(1 + retries, "attempt")
            why = (
                f"max_retries makes {attempts} at the most, and nobody is told of what "
                "fails with the last"
            )
            _note(section, name, "escalation_threshold", why, notes)
    definitions = whole.part("orchestrator").part("task_definitions")
    for kind, (node, _) in whole.part("resource_allocation").nodes.items():
        if definitions.nodes and kind not in definitions.nodes:
            message = f"there are no such tasks: {near(node, definitions.nodes)}"
            notes.add(node.place, f"resource_allocation.{kind}: {message}")
    tasks = [task for each in definitions.values.values() for task in each]
    _note_templates(whole.part("templates"), tasks, notes)


def _note_templates(
    templates: ReadMapping, tasks: Iterable[ReadMapping], notes: FaultList
) -> None:
    users: Mapping[Any, Any] = {t.get("id"): t.get("template") for t in tasks}
    for name, template in templates.values.items():
        if "command" in template.nodes:
            why = "it is for pytest, and this is a command"
            for key in ("coverage", "python"):
                _note(template, f"templates.{name}", key, why, notes)
        words = template.part("arguments")
        for task_id in words.nodes:
            other = users.get(task_id, name)
            if other != name:
                why = f"{task_id} is run by {other or 'no template'}"
                _note(words, f"templates.{name}.arguments", task_id, why, notes)
    for task in tasks:
        if task.get("subtasks"):
            task_id, name = str(task.get("id")), task.get("template")
            why = "its subtasks are run in its place: say it there"
            _note(task, task_id, "arguments", why, notes)
            words = templates.part(name).part("arguments")
            _note(words, f"templates.{name}.arguments", task_id, why, notes)


def _note(
    entry: ReadMapping, where: str, name: str, why: str, notes: FaultList
) -> None:
    if name in entry.nodes:
        notes.add(entry.nodes[name][0].place, f"{where}.{name}: {why}")


def line_of(findings: Iterable[tuple[str, str]]) -> str:
    """One line that names all entries without effect; "" if there are none."""
    names = dict.fromkeys(message.partition(": ")[0] for _, message in findings)
    if not names:
        return ""
    return f"without effect: {', '.join(names)} (taskorch suite plan says why)"
