"""What the sources weigh, and what the tests do, becomes no more: `tests/house/tools/weight.py`."""

import pytest
from tests.house.tools import weight as tool
from tests.house.tools.weight import (
    FENCE,
    ROOT,
    faults,
    followed,
    most,
    rooms,
    totals,
    weight,
)


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="not all that is ours is here")
def test_the_sources_and_the_tests_weigh_no_more_than_they_did():
    by_room = rooms()
    found = [*faults(totals(by_room), most(FENCE.read_text("utf-8")))]
    shown = [f"{many:,} {room}" for room, many in by_room.most_common(10)]
    assert not found, "\n".join([*found, *shown])


@pytest.mark.parametrize(
    ("text", "many"),
    [
        ("a = b", 3),
        ("# a comment\na  # another", 1),
        ("f(a, [b], {'c': d})", 6),
        ("a = (\n    b\n)", 3),
        ('"""Of a file."""\n\na', 1),
        ("class A:\n    '''Of a class: \\'''.'''\n    a: int", 6),
        ('def f():\n    r"""Of\n    two."""\n    return 1', 5),
        ('a = """No\ndocstring."""', 3),
        ("f(\n    'in a call'\n)", 2),
        ('a = f"{b} and {c}" \'"\' b"\\""', 5),
        ("a //= 0x1F + 1_000.5e-3 ** .5 -> ...", 9),
        ("a != b <= c if d := e", 9),
        ("from taskorch.core.kernel._rows import a, b", 5),
        ("import taskorch.model._task as t", 4),
        ("'a # b' # c", 1),
    ],
)
def test_what_a_text_weighs(text, many):
    assert weight(text) == many


def test_in_other_files_words_and_signs_weigh():
    assert weight("SELECT a, b FROM facts WHERE seq > 1", is_python=False) == 9


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("src/taskorch/core/kernel/_explain/_words.py", "src/core/kernel"),
        ("src/taskorch/core/kernel/_rows.py", "src/core/kernel"),
        ("src/taskorch/core/journal/_sql.py", "src/core/journal"),
        ("src/taskorch/ext/client/__init__.py", "src/ext/client"),
        ("benchmarks/cases/parts.py", "benchmarks/cases"),
        (".ci/run", ".ci"),
        ("tests/core/kernel/texts/rates.txt", "tests/core/kernel"),
        ("tests/house/goldens/texts/help.txt", "apart: made"),
        ("tests/house/mistakes/kernel.toml", "apart: the bank of mistakes"),
    ],
)
def test_each_file_has_a_room(name, room):
    assert tool.room_of(name) == room


@pytest.fixture
def tree(tmp_path):
    for name in (
        *("src/taskorch/a.py", "src/taskorch/b.js", "src/taskorch/c.md", ".ci/run"),
        *("tests/d.py", "tests/house/mistakes/e.toml", "examples/f.py", "other/g.py"),
        "tests/__pycache__/d.pyc",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a = b")
    return tmp_path


def test_whatever_is_ours_counts_wherever_it_is(tree):
    assert totals(rooms(tree)) == {"src": 12, "tests": 3}
    assert rooms(tree)["apart: the bank of mistakes"] == 3


def test_a_total_that_grows_is_told_and_one_that_falls_takes_the_fence_along():
    limits = most("src: 100000\ntests: 5000\n")
    assert [*faults({"src": 100_000, "tests": 4_950}, limits)] == []
    more, less = faults({"src": 100_001, "tests": 4_899}, limits)
    assert "src weighs 100,001, and may weigh 100,000" in more
    assert tool.COMMAND in less
    assert followed({"src": 200_000, "tests": 1_000}, limits) == (
        "src: 100000\ntests: 1001\n"
    )


def test_the_fence_is_written_and_rooms_are_shown(tree, monkeypatch, capsys):
    monkeypatch.setattr(tool, "FENCE", tree / "weight.txt")
    monkeypatch.setattr(tool, "rooms", lambda: rooms(tree))
    assert tool.main(["--write"]) == 0
    assert (tree / "weight.txt").read_text() == "src: 12\ntests: 3\n"
    assert capsys.readouterr().out.splitlines()[-1].split() == ["3", "tests"]
