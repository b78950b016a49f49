"""Stories that are told as text: `texts/*.txt`, which `stories` plays."""

from difflib import unified_diff
from typing import Any

import pytest
from tests.kernel.harness import Twin
from tests.kernel.stories import COLUMN, play, stories, texts
from tests.kernel.test_snapshot import both_ways

from taskorch.kernel import take_snapshot

STORIES = [
    pytest.param(story, id=f"{path.stem}: {story.splitlines()[0]}")
    for path in texts()
    for story in stories(path)
    if not story.startswith("#")
]


@pytest.mark.parametrize("story", STORIES)
def test_it_happens_as_it_is_told(story: str) -> None:
    before, now = story.splitlines(), play(story).splitlines()
    changes = list(unified_diff(before, now, "told", "happened", lineterm=""))
    assert not changes, "\n".join(changes)


@pytest.mark.parametrize("story", STORIES)
def test_from_each_line_a_snapshot_and_a_crash_lead_on(story: str) -> None:
    """The facts after a snapshot lead from it to where all of them do; a life follows."""
    lives: dict[Twin, list[Any]] = {}

    def keep(machine: Twin) -> None:
        snapshot = take_snapshot(machine.kernel, machine.now)
        lives.setdefault(machine, []).append(snapshot)

    play(story, keep)
    for machine, snapshots in lives.items():
        facts = [fact for fact, _ in machine.sink]
        for snapshot in snapshots:
            both_ways(machine.kernel, snapshot, facts, pools=machine.pools)
        machine.restart()
        machine.reopen()


def test_a_story_that_is_told_otherwise_is_seen() -> None:
    """A state that does not come, a fact that is left out, and one that is made up."""
    told = f"It runs.\n{'  submit t':<{COLUMN}} → t RUNNING"
    assert play(told) == told
    for wrong in (
        told.replace("RUNNING", "QUEUED"),
        told.split(" → ", maxsplit=1)[0].rstrip(),
        f"{told}\n    SlotLeaked t",
    ):
        assert play(wrong) == told
