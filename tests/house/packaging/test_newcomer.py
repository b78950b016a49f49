"""`make newcomer`: what a newcomer is told is read from the README."""

import runpy
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STEPS = runpy.run_path(str(ROOT / ".ci" / "newcomer.py"))
LESSON, LOST, SAID, SECTION = (
    STEPS[name] for name in ("Lesson", "LostError", "Said", "_SECTION")
)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_leads_a_newcomer_in_ten_minutes():
    lesson = LESSON.of(README)
    assert lesson.extras == "[cli,serve]"
    assert lesson.file == "pipeline.py"
    compile(lesson.program, lesson.file, "exec")
    assert all(word.strip() in lesson.program for word in STEPS["_RUN"])
    typed = [line for line, _ in lesson.commands]
    assert typed[1] == "python pipeline.py &"
    assert "kill -9 $!" in typed
    assert typed[-1] == "taskorch serve --journal pipeline.db"
    assert lesson.commands[1][1] == "transforms"
    assert lesson.minutes < STEPS["_MINUTES"]


@pytest.mark.parametrize(
    ("was", "instead", "why"),
    [
        (SECTION, "## Another\n", "has no section"),
        ("pip install '.[cli,serve]'", "pip install .", "lacks an install command"),
        ("```python no-run", "```text", "lacks"),
        ("`pipeline.py`", "a file", "lacks"),
    ],
)
def test_what_is_not_there_is_said(was, instead, why):
    with pytest.raises(LOST, match=why):
        LESSON.of(README.replace(was, instead))


def test_a_longer_readme_takes_longer():
    longer = README.replace(SECTION, f"{'word ' * 2_000}\n\n{SECTION}")
    assert LESSON.of(longer).minutes == pytest.approx(LESSON.of(README).minutes + 10)


def test_who_waits_for_words_gets_them_or_an_error(monkeypatch):
    said = SAID()
    said.add("one\ntwo")
    assert said.wait("two") == 7
    threading.Thread(target=said.add, args=("\nthree",)).start()
    assert said.wait("three", 7) == 13
    monkeypatch.setitem(SAID.wait.__globals__, "_DEADLINE", 0.0)
    with pytest.raises(LOST, match=r"(?s)'four' did not come in 0 s.*three"):
        said.wait("four", 7)
