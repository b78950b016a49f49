"""Every public value can be pickled, so that it can go to another process."""

from __future__ import annotations

import inspect
import pickle
import sys
import typing
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType

import attrs
from tests.house.packaging.public_names import public_values

import taskorch
from taskorch import TaskOrchestrator, model
from taskorch.ext import planner as planning, recovery
from taskorch.model import TaskState

PATIENCE = 60.0


def raises():
    raise OSError("no")


def sample(kind):
    """Some value of a type, as annotations have it."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, UnionType):
        return sample(inside[0])
    if origin is typing.Literal:
        return inside[0]
    if origin is tuple:
        return () if not inside or inside[-1] is ... else tuple(map(sample, inside))
    if origin is not None:
        return {} if "Mapping" in str(origin) or origin is dict else []
    simple = {
        str: "x",
        int: 3,
        float: 1.5,
        bool: True,
        BaseException: OSError("no"),
        datetime: datetime(2020, 1, 1, tzinfo=UTC),
        Path: Path("x"),
        TaskState: TaskState.QUEUED,
    }
    if kind in simple:
        return simple[kind]
    if inspect.isclass(kind) and attrs.has(kind):
        return made(kind)
    return None


#: Of those that cannot be made of just any values.
OF_THEIR_OWN = {
    taskorch.Program: lambda cls: cls(["ls"], env={"A": "b"}),
    model.Call: lambda cls: cls(int, ("1",), {"base": 10}),
    model.Wait: lambda cls: cls("x", 3.0),
    model.Quota: lambda cls: cls(type="x", max_parallel=3),
    model.Question: lambda cls: cls("answer", text="deploy?"),
    taskorch.Resources: lambda cls: cls(cpu=1, gpu=2),
    model.NamedUnits: lambda cls: cls("0", "1"),
    planning.Before: lambda cls: cls("x", "y"),
    recovery.FailureClass: lambda cls: cls("logic_error"),
    recovery.Rule: lambda cls: cls("logic_error", error="ValueError"),
}


def made(cls):
    if cls in OF_THEIR_OWN:
        return OF_THEIR_OWN[cls](cls)
    where = vars(sys.modules[cls.__module__]) | {"Path": Path}
    is_event = issubclass(cls, tuple)
    hints = typing.get_type_hints(cls if is_event else cls.__init__, where)
    given = {
        name: sample(hints[name])
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is parameter.empty
    }
    return cls(**given)


def test_each_public_value_can_be_pickled():
    for cls in public_values():
        value = made(cls)
        again = pickle.loads(pickle.dumps(value))
        assert type(again) is cls
        for field in (field for field in attrs.fields(cls) if field.eq):
            ours, theirs = getattr(value, field.name), getattr(again, field.name)
            assert ours == theirs or repr(ours) == repr(theirs), (cls, field.name)


def test_what_a_real_orchestrator_says_can_be_pickled(tmp_path):
    """With all that it fills in."""
    seen = []
    orch = TaskOrchestrator(resources={"cpu": 2})
    for name in dir(orch.signals):
        if name.startswith(("task_", "agent_")):
            getattr(orch.signals, name).connect(seen.append)

    @orch.agent("a", capabilities={"x"}, capacity={"cpu": 1})
    def do(task, context):
        context.progress({"half": 0.5})

    wf = taskorch.Workflow("w")
    wf.phase("p", max_parallel=1).task(int, id="i")
    with orch:
        orch.submit_task(taskorch.Task("x", {"a": [1]}, id="x", metadata={"k": 1}))
        failed = orch.submit_task(taskorch.Task.call(raises, id="bad"))
        orch.submit_task(taskorch.Task.call(int, after=[failed], id="blocked"))
        run = orch.workflows.start(wf, id="r")
        run.result()
        orch.wait(PATIENCE)
        said = [
            orch.get_stats(),
            orch.health(),
            *orch.tasks(),
            *map(orch.explain, ["x", "bad", "blocked"]),
            *orch.stuck(),
            run.status(),
            orch.simulate(wf, 1.0),
            *seen,
        ]
    said.append(orch.stop())
    assert len(seen) > 10
    for value in said:
        again = pickle.loads(pickle.dumps(value))
        assert str(again) == str(value)
        assert type(again) is type(value)
