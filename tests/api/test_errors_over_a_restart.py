"""An error is of the same type, and says the same, on each face in each incarnation."""

from __future__ import annotations

import inspect
import threading

from taskorch import Task, TaskOrchestrator, errors
from taskorch.errors import (
    GateFailedError,
    TaskFailure,
    TaskorchError,
    UnwantedResultError,
)
from taskorch.ext.views import JournalReader
from taskorch.kit.raised import place_of, told_of
from taskorch.model import ProgramResult

PATIENCE = 60.0


class PriceError(Exception):
    """An error of the user's."""


def work(word):
    if word == "own":
        raise PriceError("row 3 has no price")
    if word == "key":
        return {}["price"]
    raise ValueError(f"{word} has no price")


def orchestrator(path, keep=1_000):
    orch = TaskOrchestrator(journal=path, keep_finished=keep)
    orch.agent("ann", capabilities={"work"})(lambda task, context: work(task.payload))
    return orch


def said(error):
    return (
        None
        if error is None
        else tuple(map(error.get, ("type", "message", "where", "hint")))
    )


#: How many tasks stay in memory in the incarnations after the first.
KEEPS = (1_000, 1)


def test_a_cause_names_no_part_of_a_word(tmp_path):
    """An id of one letter is no reason to change what an error says."""
    with orchestrator(tmp_path / "runs.db") as orch:
        orch.submit_task(Task("work", "own", id="a"))
        orch.wait(PATIENCE)
        assert [cause.pattern for cause in orch.failures()] == ["row # has no price"]


# -- all errors of ours, with all that they have ----------------------------------------

#: What attributes may be, by name; others by the type of their default.
EXAMPLES = {
    "result": ProgramResult(("false",), 3, "out", "err", None, 1.5),
    "failures": {"load": PriceError("row 3 has no price"), "b": TaskFailure("no")},
    "findings": (("payload.x", "it is none"),),
    "conflict": ("it is too dear",),
    "trace": ("tried",),
    "story": (("queued", 1.5),),
    "differences": (("a", "priority", "1", "2"),),
    # What policies said of a whole operation is in `PolicyViolated`, and not kept again.
    "verdict": None,
}
BY_TYPE = {str: "some text", float: 2.5, tuple: ("a", "b")}
ERRORS = sorted(
    (
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, TaskorchError)
    ),
    key=lambda cls: cls.__name__,
)


def example(cls):
    """An error of *cls* that has something for each attribute."""
    fields = {
        name: EXAMPLES[name] if name in EXAMPLES else BY_TYPE[type(parameter.default)]
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in ("message", "hint", "task_id")
    }
    if cls is GateFailedError:
        fields["findings"] = (("coverage", False, "of 80 % there are 3"),)
    return cls(f"a {cls.code}", hint="turn it off and on", task_id="a/b", **fields)


def raise_one(name):
    raise example(getattr(errors, name))


def raise_what_cannot_be_kept():
    raise UnwantedResultError("not this", hint="another", result=threading.Lock())


def content(error):
    """All that an error says, and what it has."""
    fields = {
        name: {each: told_of(of) for each, of in value.items()}
        if name == "failures"
        else value
        for name, value in vars(error).items()
    }
    return type(error), str(error), place_of(error), fields


def test_each_error_of_ours_keeps_all_that_it_has(tmp_path):
    path = tmp_path / "runs.db"
    names = [cls.__name__ for cls in ERRORS]
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_tasks([Task.call(raise_one, name, id=name) for name in names])
        orch.wait(PATIENCE)
        before = {name: content(orch.get_task_status(name).error) for name in names}
    assert {name: kind.__name__ for name, (kind, *_) in before.items()} == {
        name: name for name in names
    }
    for keep in KEEPS:
        with TaskOrchestrator(journal=path, keep_finished=keep) as orch:
            after = {name: content(orch.get_task_status(name).error) for name in names}
        for name in names:
            assert after[name] == before[name], (name, keep)
    reader = JournalReader(path)
    read = {name: content(reader.get_task_status(name).error) for name in names}
    assert read == before


def test_what_an_error_has_that_cannot_be_kept_is_left_out_alone(tmp_path):
    path = tmp_path / "runs.db"

    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(raise_what_cannot_be_kept, id="a"))
        orch.wait(PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        error = orch.get_task_status("a").error
    assert (type(error), error.hint, error.result) == (
        UnwantedResultError,
        "another",
        None,
    )
