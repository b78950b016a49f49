"""A compiled kernel: what is compiled, and what is not, fit together."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import taskorch

ROOT = Path(__file__).parents[3]
#: Where classes may inherit from those of the kernel.
ROOMS = "taskorch.core.kernel", "taskorch.core.worlds", "taskorch.policies"


def test_no_class_of_python_inherits_from_a_compiled_one():
    """It could not be called: mypyc refuses that once somebody makes an instance."""
    text = (ROOT / ".ci" / "compiled.py").read_text(encoding="utf-8")
    listed = text.partition("MODULES = (")[2].partition("\n)")[0]
    compiled = {
        f"taskorch.core.kernel.{name}" for name in re.findall(r'"(\w+)"', listed)
    }
    compiled.add("taskorch.ext.budgets._kernel")
    assert "taskorch.core.kernel._rows" in compiled
    wrong = []
    for found in pkgutil.walk_packages(taskorch.__path__, "taskorch."):
        if found.name in compiled or not found.name.startswith(ROOMS):
            continue
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == found.name:
                bases = {base.__module__ for base in value.__mro__[1:]}
                wrong += [f"{found.name}.{name}"] * bool(compiled & bases)
    assert wrong == []
