"""The kernel's state is written by the kernel: its driver empties what it is given."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import getsource, signature
from pathlib import Path
from random import Random

from tests.core.kernel.harness import Nobody
from tests.core.kernel.seen import VERBS

import taskorch
from taskorch.core.kernel import Kernel, KernelConfig

SOURCES = Path(taskorch.__file__).parent
#: What a driver takes and empties, and what it plugs in when it makes a kernel.
ITS_OWN = {
    *("dropped", "effects", "hand_over", "learns", "points", "sink", "starts"),
    *("touched", "whom"),
}
CHANGES = {"add", "append", "clear", "extend", "pop", "remove", "setdefault", "update"}


def of_a_kernel(node: ast.AST) -> str:
    """The name of what is a kernel's in *node*, if it is."""
    if not isinstance(node, ast.Attribute):
        return ""
    owner = node.value
    name = getattr(owner, "attr", getattr(owner, "id", ""))
    return node.attr if name == "kernel" else ""


def written(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield node.lineno, of_a_kernel(node)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield node.lineno, of_a_kernel(node.value)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CHANGES
        ):
            yield node.lineno, of_a_kernel(node.func.value)


def test_nobody_outside_writes_the_state() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{line} {name}"
        for path in SOURCES.rglob("*.py")
        if path.parent.name not in ("kernel", "_explain") and path.name != "_kernel.py"
        if re.search(r"\bkernel\s*\.", text := path.read_text())
        for line, name in written(ast.parse(text))
        if name and name not in ITS_OWN
    ]
    assert found == []


def test_what_would_be_found() -> None:
    code = """
rt.kernel.paused = True
kernel.seq += 1
a, self.kernel.active = 1, 2
kernel.evicted.update({})
kernel.tasks["a"] = row
del kernel.tasks["a"]
kernel.starts.clear()
kernel.tasks.get("a")
"""
    names = [name for _, name in written(ast.parse(code)) if name not in ITS_OWN]
    assert sorted(filter(None, names)) == [
        "active",
        "evicted",
        "paused",
        "seq",
        "tasks",
        "tasks",
    ]


def test_no_more_slots_than_the_configuration_says() -> None:
    kernel = Kernel(KernelConfig(concurrency=4), Nobody(), Random(1))
    kernel.limit(2)
    assert kernel.concurrency == 2
    kernel.limit(9)
    assert kernel.concurrency == 4


def test_each_verb_is_the_function_that_does_it() -> None:
    """From a verb, an editor comes to its function, with its signature and its text."""
    assert len(VERBS) > 50
    for name, verb in VERBS.items():
        home = import_module(verb.__module__)
        assert home.__name__.startswith("taskorch.core.kernel."), name
        assert getattr(home, verb.__qualname__) is verb, name
        assert signature(verb).parameters["kernel"].annotation == "KernelState", name
        assert verb.__doc__, name


def test_the_door_says_where_each_verb_is() -> None:
    """Each is bound in a line of its own, by the names of its file and its function."""
    tree = ast.parse(getsource(Kernel))
    lines = {
        node.target.id: ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.value is not None
        and not node.target.id.startswith("_")
    }
    assert lines == {
        name: f"{verb.__module__.rpartition('.')[2]}.{verb.__qualname__}"
        for name, verb in VERBS.items()
    }
