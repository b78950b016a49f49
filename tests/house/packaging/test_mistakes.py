"""The bank of mistakes fits the code: each can be planted."""

from textwrap import dedent

from tests.house.tools.mistakes import SOURCE, bank, planted

BANK = bank()


def test_each_mistake_can_be_planted() -> None:
    for mistake in BANK:
        path, object_ = mistake.span()
        text = path.read_text(encoding="utf-8")[object_]
        # The object alone, which is read sooner than its file.
        compile(dedent(text.replace(mistake.old, mistake.new)), path, "exec")
        assert mistake.new != mistake.old, mistake.name


def test_no_mistake_stands_twice_in_the_bank() -> None:
    said = [(mistake.of, mistake.old, mistake.new) for mistake in BANK]
    assert len(set(said)) == len(said)


def test_a_mistake_is_planted_in_a_copy() -> None:
    mistake = BANK[0]
    path, _ = mistake.place()
    before = path.read_text(encoding="utf-8")
    with planted(mistake) as copy:
        there = (copy / path.relative_to(SOURCE)).read_text(encoding="utf-8")
    assert there == before.replace(mistake.old, mistake.new)
    assert path.read_text(encoding="utf-8") == before
