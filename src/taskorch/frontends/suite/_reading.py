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

from taskorch._telling.notifying import sender_of
from taskorch.budgets._declared import DeclaredBudgets
from taskorch.errors import InvalidTaskError
from taskorch.frontends.suite import _keys, _tasks
from taskorch.frontends.suite._model import Limits, Monitoring, Retries, Suite
from taskorch.frontends.suite._placeholders import check_templates
from taskorch.governance._reading import policies_in
from taskorch.kit.forms import FaultList, ReadMapping, keys_of, near
from taskorch.kit.located import FilePlace, Located
from taskorch.kit.visible import counted
from taskorch.kit.vocabulary import meant
from taskorch.model import Resources
from taskorch.recovery import AlertRule, Grow, default_rules
from taskorch.recovery._classes import class_of
from taskorch.recovery._matrix import rows_of


def merged(documents: Iterable[Located], faults: FaultList) -> Located | None:
    """
    All documents merged into one, in which mappings are dicts of name to value.

    Mappings of the same name are put together, and so are lists of entries that have
    an `id`. All else that is said twice must be the same.

    Returns:
        The document, or None if there is none.
    """
    whole: Located | None = None
    for document in documents:
        one = _single(document, faults)
        whole = one if whole is None else _both(whole, one, "the document", faults)
    return whole


def _single(node: Located, faults: FaultList) -> Located:
    """*node* with dicts for mappings; what one names twice is put together."""
    if isinstance(node.value, list):
        return Located([_single(item, faults) for item in node.value], node.place)
    if not isinstance(node.value, tuple):
        return node
    entries: dict[str, tuple[Located, Located]] = {}
    for key, value in node.value:
        one = _single(value, faults)
        if key.value in entries:
            first, before = entries[key.value]
            entries[key.value] = first, _both(before, one, key.value, faults)
        else:
            entries[key.value] = key, one
    return Located(entries, node.place)


def _both(first: Located, second: Located, name: str, faults: FaultList) -> Located:
    """What *first* and *second*, both called *name*, say together."""
    if isinstance(first.value, dict) and isinstance(second.value, dict):
        joined = dict(first.value)
        for key, (place, value) in second.value.items():
            if key in joined:
                earlier, before = joined[key]
                joined[key] = earlier, _both(before, value, key, faults)
            else:
                joined[key] = place, value
        return Located(joined, first.place)
    if _has_ids(first) and _has_ids(second):
        entries = {_id_of(entry): entry for entry in first.value}
        for entry in second.value:
            named = _id_of(entry)
            earlier = entries.get(named)
            entries[named] = (
                entry if earlier is None else _both(earlier, entry, named, faults)
            )
        return Located(list(entries.values()), first.place)
    if _plain(first) != _plain(second):
        faults.disagree(name, first, second)
    return first


def _has_ids(node: Located) -> bool:
    return isinstance(node.value, list) and all(
        isinstance(entry.value, dict)
        and "id" in entry.value
        and isinstance(entry.value["id"][1].value, str)
        for entry in node.value
    )


def _id_of(entry: Located) -> str:
    return str(entry.value["id"][1].value)


def _plain(node: Located) -> object:
    """What *node* says, as it is compared: 1 is 1.0, and no truth."""
    value = node.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, (_, item) in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (isinstance(value, bool), value)


def note_all(configuration: Mapping[str, ReadMapping], notes: FaultList) -> None:
    """Note what *configuration*, by its sections, has without effect."""
    failures = ("failure_handling", "recovery")
    if not any(configuration[section].get("max_retries") for section in failures):
        why = "there are no retries: max_retries says how many"
        for section in failures:
            _note(configuration[section], section, "retry_delay_seconds", why, notes)
    _note_threshold(configuration, failures, notes)
    none = ReadMapping({}, {}, configuration["orchestrator"].place)
    definitions: ReadMapping = configuration["orchestrator"].get(
        "task_definitions", none
    )
    _note_classes(configuration["resource_allocation"], definitions, notes)
    tasks = [task for each in definitions.values.values() for task in each]
    _note_templates(configuration["templates"], tasks, notes)
    for task in tasks:
        _note_task(task, configuration["templates"].values, notes)


def _note_threshold(
    configuration: Mapping[str, ReadMapping],
    sections: Iterable[str],
    notes: FaultList,
) -> None:
    """A threshold above the attempts that there are: nobody would ever be told."""
    retries = max(configuration[section].get("max_retries", 0) for section in sections)
    for section in sections:
        threshold = configuration[section].get("escalation_threshold", 0)
        if threshold > 1 + retries:
            attempts = counted(1 + retries, "attempt")
            why = (
                f"max_retries makes {attempts} at the most, and nobody is told of what "
                "fails with the last"
            )
            _note(configuration[section], section, "escalation_threshold", why, notes)


def _note_classes(
    allocation: ReadMapping, definitions: ReadMapping, notes: FaultList
) -> None:
    for kind in allocation.values:
        where = f"resource_allocation.{kind}"
        if definitions.nodes and kind not in definitions.nodes:
            node, _ = allocation.nodes[kind]
            message = f"there are no such tasks: {near(node, definitions.nodes)}"
            notes.add(node.place, f"{where}: {message}")


def _note_templates(
    templates: ReadMapping, tasks: Iterable[ReadMapping], notes: FaultList
) -> None:
    users = {task.get("id"): task.get("template") for task in tasks}
    for name, template in templates.values.items():
        if "command" in template.nodes:
            why = "it is for pytest, and this is a command"
            for key in ("coverage", "python"):
                _note(template, f"templates.{name}", key, why, notes)
        words: ReadMapping | None = template.get("arguments")
        for task_id in () if words is None else words.nodes:
            other = users.get(task_id, name)
            if words is not None and other != name:
                why = f"{task_id} is run by {other or 'no template'}"
                _note(words, f"templates.{name}.arguments", task_id, why, notes)


def _note_task(
    task: ReadMapping, templates: Mapping[str, ReadMapping], notes: FaultList
) -> None:
    if not task.get("subtasks"):
        return
    why = "its subtasks are run in its place: say it there"
    _note(task, str(task.get("id")), "arguments", why, notes)
    template = templates.get(task.get("template", ""))
    words: ReadMapping | None = None if template is None else template.get("arguments")
    if words is not None:
        where = f"templates.{task.get('template')}.arguments"
        _note(words, where, str(task.get("id")), why, notes)


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


#: Bytes of a file: more than people write by hand.
_MAX_SIZE: Final = 1 << 20
#: What two sections of a configuration may both say.
_SHARED: Final = (
    ("failure_handling", "recovery", "max_retries"),
    ("failure_handling", "recovery", "retry_delay_seconds"),
    ("failure_handling", "recovery", "escalation_threshold"),
    ("failure_handling", "recovery", "timeout_grace_period"),
    ("failure_handling", "recovery", "rerun_failed_tests"),
    ("agent_limits", "agent_pool", "max_agents"),
)
#: What a failed task of a suite may have more of.
_GROWN: Final = (
    *("memory_mb", "cpu_cores", "cpu", "disk_mb", "timeout", "timeout_seconds"),
)
#: The classes of failures that tests find.
_OF_TESTS: Final = frozenset({"logic_error", "calculation_error"})
#: What makes the agents as many as there is work for.
_SCALES: Final = ("scale_up_threshold", "scale_down_threshold", "settle_seconds")


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
    documents: list[Located] = []
    for path in paths:
        documents += _documents(Path(path), faults)
    whole = merged(documents, faults)
    if whole is None:
        faults.refuse()
        whole = Located({}, FilePlace(str(paths[0]), 1, 1))
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


def _suite(whole: ReadMapping, folder: Path, faults: FaultList) -> Suite:
    sections = {
        name: _section(whole, name) for name in keys_of(_keys.SuiteConfiguration)
    }
    for first, second, key in _SHARED:
        if key in sections[first].values and key in sections[second].values:
            mine, its = sections[first], sections[second]
            if mine.get(key) != its.get(key):
                faults.disagree(key, mine.node(key), its.node(key))
    about, pool = sections["orchestrator"], sections["agent_pool"]
    limits = _limits(sections["agent_limits"], pool, faults)
    templates = check_templates(sections["templates"], folder, faults)
    budgets = DeclaredBudgets.of(sections["budgets"], faults)
    phases, missing = _tasks.phases(sections, templates, limits, faults)
    _tasks.check_budgets(sections, phases, budgets, faults)
    notes = FaultList()
    note_all(sections, notes)
    failures, recovery = sections["failure_handling"], sections["recovery"]
    watch = {
        **sections["monitoring"].values,
        **_taken(about, "api_port", "metrics_port"),
    }
    none = ReadMapping({}, {}, whole.place)
    matrix: ReadMapping = recovery.get("matrix", none)
    _check_grown(matrix, faults)
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
            grace=_either(failures, recovery, "timeout_grace_period", Retries().grace),
            tests_again=_either(
                failures,
                recovery,
                "rerun_failed_tests",
                bool(recovery.nodes)
                and _either(failures, recovery, "max_retries", 0) > 0
                and _is_again(matrix),
            ),
        ),
        monitoring=Monitoring(
            **watch,
            **_webhook(recovery, faults),
        ),
        recovery=bool(recovery.nodes),
        matrix=rows_of(matrix),
        classes=tuple(recovery.get("classes", ())),
        repairs=_repairs(recovery),
        alerts=_alerts(sections["alerts"], faults) if "alerts" in whole.nodes else None,
        missing=missing,
        without_effect=notes.findings,
        budgets=budgets,
        policies=policies_in(whole, folder, faults),
    )


def _is_again(matrix: ReadMapping) -> bool:
    """Whether *matrix* has no row for failed tests, which are run once more then."""
    return _OF_TESTS.isdisjoint(map(class_of, matrix.values))


def _repairs(recovery: ReadMapping) -> dict[str, tuple[str, ...]]:
    none = ReadMapping({}, {}, recovery.place)
    programs = recovery.get("repairs", none).values
    return {name: tuple(args) for name, args in programs.items()}


def _webhook(recovery: ReadMapping, faults: FaultList) -> dict[str, Any]:
    """Where people are told, which is checked here; nothing is sent."""
    names = "human_notification_webhook", "webhook_secret_env", "webhook_may_be_private"
    settings = _taken(recovery, *names)
    hook, is_private = settings.get(names[0]), settings.get(names[2], False)
    if hook is not None:
        try:
            sender_of(hook, secret=None, allow_private=is_private, timeout=1)
        except InvalidTaskError as error:
            hint = "webhook_may_be_private: true allows it"
            hint = hint if "private" in error.hint else error.hint
            faults.add(recovery.at(names[0]), f"{names[0]}: {error.message} ({hint})")
    return settings


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
            continue
        if "when" not in fields.values:
            # That, and why, has been said.
            continue
        try:
            rules[name] = AlertRule.of(name, **fields.values)
        except InvalidTaskError as error:
            faults.add(fields.place, f"alerts.{name}: {error}")
    return rules


def _section(whole: ReadMapping, name: str) -> ReadMapping:
    section: ReadMapping = whole.get(name, ReadMapping({}, {}, whole.place))
    return section


def _taken(entry: ReadMapping, *names: str) -> dict[str, Any]:
    return {name: entry.get(name) for name in names if name in entry.values}


def _either(first: ReadMapping, second: ReadMapping, name: str, default: Any) -> Any:
    return first.get(name, second.get(name, default))


def _limits(limits: ReadMapping, pool: ReadMapping, faults: FaultList) -> Limits:
    most = _either(limits, pool, "max_agents", None)
    least = pool.get("min_agents", 1)
    if most is not None and least > most:
        where = limits if "max_agents" in limits.values else pool
        message = (
            f"min_agents is {least}, and max_agents {most} at {where.at('max_agents')}"
        )
        faults.add(pool.at("min_agents"), message)
    names = {"cpu": "total_cpu_cores", "memory_mb": "total_memory_mb"}
    held = {
        ours: limits.get(name) for ours, name in names.items() if name in limits.values
    }
    usual = Limits()
    up = pool.get("scale_up_threshold", usual.scale_up)
    down = pool.get("scale_down_threshold", usual.scale_down)
    if down >= up:
        name = next(name for name in _SCALES[1::-1] if name in pool.values)
        message = (
            f"scale_down_threshold is {down:g}, and not below scale_up_threshold, "
        )
        faults.add(pool.at(name), f"{message}{up:g}")
    settle = pool.get("settle_seconds", usual.settle)
    # More than one to begin with, and no most: so many there are.
    is_pool = any(name in pool.values for name in _SCALES)
    is_pool = is_pool or ("min_agents" in pool.values and most is not None)
    return Limits(
        least,
        most,
        Resources(**held),
        up,
        down,
        settle,
        is_pool,
        limits.get("enforce", usual.enforce),
        limits.get("measured", usual.measured),
    )
