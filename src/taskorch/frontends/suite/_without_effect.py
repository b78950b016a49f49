"""What a configuration says that has no effect, and why: it is told, not refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from taskorch._base.visible import counted
from taskorch._documents.forms import FaultList, ReadMapping, near


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
