"""The table of all waits in `docs/howto/explain.md` is complete, and says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.api.in_the_way import MORE, WORLDS, World
from tests.api.tools import eventually

from taskorch import current_context
from taskorch.model import TERMINAL, Blocker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/explain.md").read_text("utf-8").partition("## All waits")[2]
BLOCKERS, _, OTHERS = PAGE.partition("These waits are no `blockers`")
ROWS = {
    kind: cells
    for line in BLOCKERS.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    for kind in re.findall(r"`(\w+)`", cells[0])
}


def test_each_kind_of_a_blocker_has_a_line():
    """Those of the docstring, and those that any file makes: no kind is left out."""
    texts = [f.read_text("utf-8") for f in (ROOT / "src/taskorch").rglob("*.py")]
    made = {
        kind for text in texts for kind in re.findall(r"\bBlocker\(\s*\"(\w+)\"", text)
    }
    assert made
    assert made <= ROWS.keys()
    told = Blocker.__doc__.partition("The kinds, with")[2]
    named = [
        kind
        for line in re.findall(r"- ((?:`\w+`(?:, )?)+):", told)
        for kind in re.findall(r"`(\w+)`", line)
    ]
    assert set(named) == ROWS.keys() == WORLDS.keys()


def test_each_condition_of_the_table_has_a_world():
    """One for each cell, and each world is one that the table speaks of."""
    for kind, condition in MORE:
        assert any(condition in cell for cell in ROWS[kind]), (kind, condition)
    for kind, cells in ROWS.items():
        for cell in cells[2:]:
            worlds = [words for of, words in MORE if of == kind and words in cell]
            assert worlds or not re.search(r"\b(if|with)\b", cell), (kind, cell)


@pytest.fixture
def world():
    one = World()
    yield one
    one.go.set()


def assert_told(orch, kind, group, health=()):
    """What keeps `x` is explained, and told by `stuck()` and the health as it should."""
    eventually(lambda: kind in kinds_of(orch), str(orch.explain("x")))
    groups = [(each.kind, each.outside) for each in orch.stuck() if "x" in each.tasks]
    assert groups == ([group] if group else [])
    eventually(lambda: ill(orch) == sorted(health), str(orch.health()))


def kinds_of(orch):
    found = orch.explain("x")
    return {each.kind for each in (*found.blockers, *found.then)}


def ill(orch):
    checks = orch.health().checks
    return sorted(each.component for each in checks if each.status != "ok")


def assert_ended(orch, kind, world):
    """What the table says ends the wait does: the task goes on, or has ended."""
    if world.end is None:
        assert orch.get_task_status("x").state in TERMINAL
        return
    world.end()
    eventually(lambda: kind not in kinds_of(orch), str(orch.explain("x")))


@pytest.mark.needs("notices")
@pytest.mark.parametrize("kind", sorted(WORLDS.keys() - {"agent"}))
def test_a_wait_is_told_as_the_page_says(kind, world, tmp_path):
    _, _, stuck, health = ROWS[kind]
    group = re.match(r"`(\w+)`(, outside)?", stuck)
    checks = [] if " if " in health else re.findall(r"`(\w+)`", health)
    with WORLDS[kind](world, tmp_path) as orch:
        said = (group[1], bool(group[2])) if group else None
        assert_told(orch, kind, said, checks)
        assert_ended(orch, kind, world)


@pytest.mark.needs("notices")
@pytest.mark.parametrize("case", MORE, ids=str)
def test_a_wait_under_a_condition_is_told_as_the_page_says(case, world, tmp_path):
    make, group, health = MORE[case]
    cells = ROWS[case[0]]
    with make(world, tmp_path) as orch:
        assert_told(orch, case[0], group, [health] if health else [])
        # What is told is in the cells.
        assert health is None or f"`{health}`" in cells[3]
        if group and group[0] not in (case[0], "waiting"):
            is_of_another = case == ("dependency", "is stuck")
            assert is_of_another or f"`{group[0]}`" in cells[2]
        assert_ended(orch, case[0], world)


def waits(orch):
    current_context().wait("go")
