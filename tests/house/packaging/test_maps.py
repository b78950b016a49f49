"""Every room begins with a map of its files, and modules name the decisions behind them."""

import re
from pathlib import Path

import pytest

import taskorch

SOURCE = Path(taskorch.__file__).parent
DOCS = Path(__file__).parents[3] / "docs"
ROOMS = sorted(
    str(path.parent.relative_to(SOURCE))
    for path in SOURCE.rglob("__init__.py")
    # A room of one file has no others to name.
    if path.parent != SOURCE
    and any(not other.name.startswith("__") for other in path.parent.iterdir())
)
#: The last line of the docstring of a module that carries out decisions.
DECISIONS = re.compile(r"Decisions?: ([a-z-]+(?:, [a-z-]+)*)\.")
PAGES = {path.stem for path in (DOCS / "decisions").glob("*.md")}
#: Pages that no module carries out, and what they are about.
OF_NO_MODULE = {
    "tests-and-checks": "what holds the promises: the Makefile, tests/house/tools",
}


def docstring(path: Path) -> str:
    """With which the file begins: to parse them all would take seconds."""
    text = path.read_text(encoding="utf-8")
    begin, _, rest = text.partition('"""')
    return "" if begin else rest.partition('"""')[0].strip()


def files_of(room: Path) -> set[str]:
    """The names of what is in a room: modules, and the rooms in it."""
    names = {path.stem for path in room.glob("*.py")} - {"__init__"}
    inner = {path.name for path in room.iterdir() if path.is_dir()}
    return names | {name for name in inner if not name.startswith("__")}


def mapped(text: str) -> list[str]:
    """The names that a map gives: at the beginning of the entries of its list."""
    entries = re.findall(r"^- ((?:`\w+`(?:,\s+)?)+):", text, re.MULTILINE)
    return [name for entry in entries for name in re.findall(r"`(\w+)`", entry)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_begins_with_a_map(room):
    """It says what the room is for, and names each of its files once, and no other."""
    text = docstring(SOURCE / room / "__init__.py")
    names = mapped(text)
    assert set(names) == files_of(SOURCE / room)
    assert len(names) == len({*names})
    assert 6 < len(text.splitlines()) <= 42
    about = text.partition("\n- `")[0].split("\n\n", 1)
    assert len(about) == 2, "the first line alone does not say what belongs there"


def test_the_design_names_each_room_and_each_module_at_the_root():
    """What stands beside the rooms is a map of its own: the root's text is for users."""
    text = (DOCS / "explanation" / "design.md").read_text(encoding="utf-8")
    section = text.partition("## Map of the code")[2].partition("\n## ")[0]
    _, _, entries = section.partition("\n- ")
    names = re.findall(r"`(\w+)`", entries)
    assert sorted(names) == sorted(files_of(SOURCE))


def decisions_named() -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for path in SOURCE.rglob("*.py"):
        last = docstring(path).rpartition("\n")[2]
        match = DECISIONS.fullmatch(last)
        assert match or not last.startswith("Decision"), path
        for page in match[1].split(", ") if match else ():
            named.setdefault(page, []).append(str(path.relative_to(SOURCE)))
    return named


def test_a_decision_is_named_where_it_is_carried_out():
    """And whoever names one names a page that there is."""
    named = decisions_named()
    assert named.keys() - PAGES == set()
    assert PAGES - named.keys() == OF_NO_MODULE.keys()
