"""Every room begins with a map of its files, and modules name the decisions behind them."""

import re
from pathlib import Path

import pytest

import taskorch

SOURCE = Path(taskorch.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
ROOMS = sorted(
    str(path.parent.relative_to(SOURCE))
    for path in SOURCE.rglob("__init__.py")
    if path.parent != SOURCE
)
#: The last line of the docstring of a module that carries out decisions.
DECISIONS = re.compile(r"Decisions?: (\d{4}(?:, \d{4})*)\.")
PAGES = {path.name[:4] for path in (DOCS / "decisions").glob("*.md")}
#: Decisions that no module carries out, and what they are about.
OF_NO_MODULE = {
    "0004": "which libraries are used: pyproject.toml",
    "0007": "checkers of types: pyproject.toml, the Makefile",
    "0061": "what is not done any more for a quick start",
    "0070": "tests, and tricks that are not used",
    "0092": "tests of engines, and the extras",
    "0094": "tests that start PostgreSQL",
    "0149": "a world of the tests: tests/tools/rooms.py",
    "0210": "texts for users, and the search of the site: STYLE.md, docs/conf.py",
    "0211": "programs on pages, and the tutorial: tests/packaging",
    "0259": "what keeps the core and its extensions apart: tests/tools/fences.py",
    "0265": "what a change waits for: the Makefile, .ci/twice",
    "0272": "what can be deleted: tests/tools/extensions.py",
    "0284": "what the tests cost: the Makefile, tests/tools/examples.py",
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
    lines = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    names = set(re.findall(r"[\w/]+", " ".join(lines)))
    assert files_of(SOURCE) - names == set()


def decisions_named() -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for path in SOURCE.rglob("*.py"):
        last = docstring(path).rpartition("\n")[2]
        match = DECISIONS.fullmatch(last)
        assert match or not last.startswith("Decision"), path
        for number in match[1].split(", ") if match else ():
            named.setdefault(number, []).append(str(path.relative_to(SOURCE)))
    return named


def test_a_decision_is_named_where_it_is_carried_out():
    """And whoever names one names a page that there is."""
    named = decisions_named()
    assert named.keys() - PAGES == set()
    assert PAGES - named.keys() == OF_NO_MODULE.keys()
