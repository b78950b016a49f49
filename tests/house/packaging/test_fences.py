"""
What keeps the core and its extensions apart becomes no more: `tests/house/tools/fences.py`.

What is there today is listed in `fences`, so that each change shows what it takes away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.house.tools import fences
from tests.house.tools.fences import (
    OF_SOURCES,
    Sources,
    differences,
    golden,
    lists_of,
    main,
)


@pytest.fixture(scope="module")
def lists() -> Mapping[str, list[str]]:
    return lists_of()


@pytest.mark.parametrize("name", OF_SOURCES)
def test_a_list_becomes_no_longer(lists, name):
    fault = differences(name, lists[name])
    assert not fault, fault


def test_a_task_costs_what_it_did():
    """Neither more nor less: what is gained is written down."""
    fault = differences("ways", fences.ways())
    assert not fault, fault


@pytest.mark.parametrize("name", [*OF_SOURCES, "bound"])
def test_a_list_has_each_entry_once_in_order(name):
    assert golden(name) == sorted({*golden(name)})


FILES = {
    "core/kernel/_a.py": """
from taskorch.errors import InvalidTaskError
class Hidden:
    def __init__(self, one): self._secret, one._secret = 1, 2
""",
    "core/kernel/_b.py": """
from typing import TYPE_CHECKING
from taskorch.kit import limits
if TYPE_CHECKING:
    from taskorch.ext.planner._c import Planner
def late():
    from taskorch.ext.telemetry import Spans
    import taskorch.core.kernel._a
""",
    "ext/planner/_c.py": """
from taskorch.core.kernel import _b
from taskorch.core.kernel._a import Hidden
from taskorch.model import Task, door
import taskorch
from taskorch import errors
from taskorch.model._task import Task, hidden
from taskorch.ext.recovery import Level
from taskorch.kit.limits import NS
from taskorch.ext.budgets._declared import BUDGET
from taskorch.ext.planner._d import other
class Planner:
    def f(self, it): return it._secret, it._own, self._own, it._replace(), it.__class__
    _own: int = 0
""",
    "ext/planner/_d.py": "from taskorch.ext.planner import _d\nother = _c._own",
    "testing/_e.py": "from taskorch.core.kernel._a import Hidden\nHidden._secret, a._own",
    "kit/limits.py": "NS = 1",
    "ext/budgets/_declared.py": "BUDGET = 1",
    "model/__init__.py": "",
    "model/_task.py": "",
    "errors.py": "def asks(a):\n    if not (a or a and a) or a and not (a or a) and a and a: a = 1\n"
    "    return a or a or a or a or a or a or a",
    "ext/telemetry/__init__.py": "",
    "ext/recovery/__init__.py": "",
    "ext/views/_large.py": "class Large:\n    def f(self):\n"
    + "".join(f"        self.a{n} = self.b{n}\n" for n in range(41))
    + "class Long:\n"
    + "    def f(self): ...\n" * 700
    + "class Usual:\n"
    + "    def f(self): self.b = 1\n" * 699,
    "__init__.py": "",
    "core/kernel/__init__.py": "",
}


@pytest.fixture
def package(tmp_path) -> Path:
    for place, text in FILES.items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


FAULTS = {
    "taken": [
        *("budgets:BUDGET", "core.kernel:Hidden", "core.kernel:_b", "model:door"),
        "model:hidden",
        "recovery:Level",
    ],
    "asked": ["planner:Planner", "telemetry:Spans"],
    "circles": ["core.kernel._b", "ext.planner._c"],
    "private": ["ext.planner._c uses _secret", "testing._e uses _own"],
    "classes": [
        "ext.views._large:Large has over 40 attributes",
        "ext.views._large:Long has over 700 lines",
    ],
    "conditions": ["errors:asks: 8 operands"],
}


def test_what_a_list_has_is_seen(package):
    taken = [f"planner takes {each}" for each in FAULTS["taken"]]
    asked = [f"core.kernel._b imports {each}" for each in FAULTS["asked"]]
    assert lists_of(package) == FAULTS | {"taken": taken, "asked": asked}


def test_an_attribute_of_no_room_is_nobodys(package):
    """What only others have, such as a library, is not ours to make public."""
    (package / "errors.py").write_text("def f(it): return it._of_a_library")
    assert sorted(fences.private(Sources(package))) == FAULTS["private"]


@pytest.fixture
def listed(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(fences, "FOLDER", tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    return tmp_path / "classes.txt"


def test_a_difference_says_what_to_do(listed):
    assert not differences("classes", ["a", "b"])
    assert "shrink the golden" in differences("classes", ["a"])
    more = differences("classes", ["a", "b", "c"])
    assert "does not have\n    c\nDivide it" in more


@pytest.mark.parametrize(
    ("entries", "code"), [(["a"], 0), (["a", "c"], 0), (["a", "b", "c"], 1)]
)
def test_a_list_is_written_unless_it_grows(listed, monkeypatch, capsys, entries, code):
    monkeypatch.setattr(fences, "lists_of", lambda: {"classes": entries})
    before = listed.read_text()
    assert main(["--write", "classes"]) == code
    after = "".join(f"{entry}\n" for entry in entries)
    assert listed.read_text() == (before if code else after)
    assert ("would become longer" in capsys.readouterr().out) == bool(code)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(
    ("name", "was", "lines"),
    [
        ("ways", "x: 2 calls, 4 files", ("x: 2 calls, 3 files", "x: 1 calls, 5 files")),
        ("conditions", "a:b: 9 operands", ("a:b: 8 operands", "a:b: 10 operands")),
    ],
)
def test_a_number_is_written_unless_it_is_larger(
    listed, monkeypatch, name, was, lines, code
):
    listed.with_name(f"{name}.txt").write_text(f"{was}\n")
    line = lines[code]
    monkeypatch.setattr(fences, "ways", lambda: [line])
    monkeypatch.setattr(fences, "lists_of", lambda: {name: [line]})
    assert main(["--write", name]) == code
    assert fences.golden(name) == [was if code else line]
