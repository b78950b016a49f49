"""What `help()` and `repr()` say of public values."""

from __future__ import annotations

import attrs
import pytest
from tests.house.packaging.public_names import public_values

from taskorch import (
    Program,
    ProgramResult,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
)


def test_the_docstring_of_a_value_explains_each_field():
    """Its own, or that of the class from which it has the field."""
    for cls in public_values():
        told = "\n".join(base.__doc__ or "" for base in cls.__mro__ if attrs.has(base))
        for field in attrs.fields(cls):
            if field.init and not field.name.startswith("_"):
                assert f"    {field.name}: " in told, (cls, field.name)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Task("build"), "Task(type='build')"),
        (
            Task("build", {"a": 1}, id="x", timeout=5, after=["y"]),
            "Task(type='build', payload={'a': 1}, id='x', after=['y'], timeout=5)",
        ),
        (
            Task("t", resources={"cpu": 2}, retry=RetryPolicy(3)),
            (
                "Task(type='t', resources=Resources(cpu=2), "
                "retry=RetryPolicy(max_attempts=3))"
            ),
        ),
        (RetryPolicy(), "RetryPolicy()"),
        (RetryPolicy(3, base=2), "RetryPolicy(max_attempts=3, base=2)"),
        (Task.call(abs, -1).payload, f"Call(fn={abs!r}, args=(-1,))"),
        (Program(["ls"]), "Program(args=('ls',))"),
        (Resources(cpu=2, memory_mb=1), "Resources(cpu=2, memory_mb=1)"),
    ],
    ids=str,
)
def test_a_repr_shows_what_is_not_as_usual(value, said):
    assert repr(value) == said


def test_no_field_is_longer_than_a_line():
    value = Task("t", "x" * 10_000, metadata={"lines": "a\nb" * 100})
    assert len(repr(value)) < 300
    result = ProgramResult(("ls",), 0, "line\n" * 1000, "", None, 1.5)
    assert "\n" not in repr(result)
    assert len(repr(result)) < 300

    class Odd:
        def __repr__(self):
            return "two\nlines"

        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    assert repr(Task("t", Odd())) == "Task(type='t', payload=two lines)"
    with TaskOrchestrator() as orch:
        handle = orch.submit(lambda: "x" * 10_000)
        handle.result()
        status = orch.get_task_status(handle.task_id)
    assert len(repr(status)) < 1_000
    assert "progress" not in repr(status)


def test_a_secret_is_not_shown():
    assert "hunter2" not in repr(Program(["ls"], env={"PASSWORD": "hunter2"}))
    assert "hunter2" not in repr(Task.program(["ls"], env={"PASSWORD": "hunter2"}))
