"""
Whoever changes a journal behind its back is found, and what is said is what was done.

Each damage says which events it concerns, and the words that name it if nothing else was
done. Of several the first is named, by events that one of them concerns.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st
from tests.ext.proofs.proving import InAFile, live

from taskorch.core.journal._reader import Reader
from taskorch.core.journal._sqlite_session import session_of
from taskorch.errors import JournalError

EVENTS = "INSERT INTO facts SELECT ?, kind, at_ns, task_id, body, doc FROM facts WHERE"
OF_EVENTS = [
    "at_ns = at_ns + 1",
    "body = body || ' '",
    "kind = kind || 'x'",
    "task_id = coalesce(task_id, '') || 'x'",
    "doc = coalesce(doc, '') || 'x'",
]
OF_GROUPS = [
    *("crc = crc + 1", "hash = zeroblob(32)", "size = size + 1", "epoch = epoch + 1"),
    *("form = 99", "gone = 'x'", "first = first - 1"),
]


class Damage(NamedTuple):
    """Statements, the events that they concern, and the words for that."""

    statements: list[tuple]
    first: int
    last: int
    words: str


class Kept:
    """A journal of some incarnations, and what stands in it."""

    def __init__(self, folder: Path) -> None:
        self.file = InAFile(folder, None)
        for incarnation in range(3):
            live(self.file.place, incarnation)
        run = self.file.run
        self.groups = run("SELECT first, last FROM groups ORDER BY last")
        self.numbers = [n for (n,) in run("SELECT seq FROM facts ORDER BY seq")]
        self.snapshots = [n for (n,) in run("SELECT seq FROM snapshots")]
        self.end = self.groups[-1][1]

    def group_of(self, number: int) -> tuple[int, int]:
        """The commit of an event."""
        return next(each for each in self.groups if each[0] <= number <= each[1])

    def problem(self, damages: list[Damage]) -> str | None:
        """What is said then, "" if nothing is; None if the database refuses it."""
        said = None
        with closing(sqlite3.connect(self.file.place, isolation_level=None)) as db:
            session = session_of(db, Path(self.file.place))
            with suppress(UndoneError, sqlite3.IntegrityError), session.transaction():
                for statement, *values in [s for d in damages for s in d.statements]:
                    db.execute(statement, values)
                said = ""
                try:
                    list(Reader(session).proved())
                except JournalError as error:
                    said = error.message.partition(" is damaged: ")[2]
                raise UndoneError
        return said


class UndoneError(Exception):
    """A change is taken back."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp("tampered"))


# -- what may be done ------------------------------------------------------------------


def missing(kept, first, last):
    if first == 1:
        return f"the beginning, up to {last}, is gone"
    if last == kept.end:
        return f"the end after {first - 1} is gone"
    return f"events {first} to {last} are missing"


def commits_are_gone(kept, rng, *, begin=None, end=None):
    place = rng.randrange(1, len(kept.groups) - 1)
    first = begin or kept.groups[place][0]
    last = (
        end or kept.groups[min(place + rng.choice([0, 0, 2]), len(kept.groups) - 2)][1]
    )
    between = "BETWEEN ? AND ?"
    statements = [
        (f"DELETE FROM facts WHERE seq {between}", first, last),
        (f"DELETE FROM groups WHERE last {between}", first, last),
    ]
    return Damage(statements, first, last, missing(kept, first, last))


def the_beginning_is_gone(kept, rng):
    return commits_are_gone(kept, rng, begin=1)


def the_end_is_gone(kept, rng):
    return commits_are_gone(kept, rng, end=kept.end)


def all_is_gone(kept, _):
    words = f"all events, up to {kept.end}, are gone"
    return commits_are_gone(kept, _, begin=1, end=kept.end)._replace(words=words)


def the_events_of_a_commit_are_gone(kept, rng):
    first, last = rng.choice(kept.groups)
    words = f"events {first} to {last} are missing"
    gone = ("DELETE FROM facts WHERE seq BETWEEN ? AND ?", first, last)
    return Damage([gone], first, last, words)


def an_event_is_gone(kept, rng):
    last = first = rng.choice(kept.numbers)
    # The end of an attempt may have the number of its start with it.
    while first - 1 not in kept.numbers and first > kept.group_of(last)[0]:
        first -= 1
    words = f"to {last} are missing"
    return Damage([("DELETE FROM facts WHERE seq = ?", last)], first, last, words)


def an_event_is_another(kept, rng):
    number = rng.choice(kept.numbers)
    first, last = kept.group_of(number)
    change = f"UPDATE facts SET {rng.choice(OF_EVENTS)} WHERE seq = ?"
    words = f"events {first} to {last} were changed"
    return Damage([(change, number)], first, last, words)


def two_events_change_places(kept, rng):
    one, other = sorted(rng.sample(kept.numbers, 2))
    first, last = kept.group_of(one)
    move = "UPDATE facts SET seq = ? WHERE seq = ?"
    moves = [(move, -1, one), (move, one, other), (move, other, -1)]
    return Damage(moves, first, last, f"events {first} to {last} were changed")


def a_group_is_gone(kept, rng):
    first, last = rng.choice(kept.groups)
    gone = ("DELETE FROM groups WHERE last = ?", last)
    words = f"events {first} to {last} are in no group: they were inserted, or"
    return Damage([gone], first, last, words)


def a_group_is_another(kept, rng):
    first, last = rng.choice(kept.groups)
    change = f"UPDATE groups SET {rng.choice(OF_GROUPS)} WHERE last = ?"
    words = f"events {first} to {last} were changed"
    return Damage([(change, last)], first, last, words)


def events_follow_the_end(kept, rng):
    first, last = kept.end + 1, kept.end + rng.choice([1, 2, 5])
    copies = [
        (f"{EVENTS} seq = ?", number, rng.choice(kept.numbers))
        for number in range(first, last + 1)
    ]
    words = f"events {first} to {last} are in no group: they were inserted, or"
    return Damage(copies, first, last, words)


def an_event_precedes_the_first(kept, rng):
    number = rng.choice([0, -3])
    copy = (f"{EVENTS} seq = ?", number, rng.choice(kept.numbers))
    words = f"events {number} to {number} are in no group: they were inserted, or"
    return Damage([copy], number, number, words)


def a_group_precedes_the_first(kept, _):
    copy = "INSERT INTO groups SELECT 0, 0, epoch, crc, form, size, hash, gone FROM"
    statement = f"{copy} groups WHERE last = ?"
    words = "a group up to event 0 was inserted"
    return Damage([(statement, kept.end)], 0, 0, words)


def a_commit_follows_the_end(kept, rng):
    first, last = rng.choice(kept.groups)
    more = kept.end + 1 - first
    copy = "INSERT INTO groups SELECT ?, ?, epoch, crc, form, size, hash, gone FROM"
    statements = [
        (f"{EVENTS.replace('?', 'seq + ?')} seq BETWEEN ? AND ?", more, first, last),
        (f"{copy} groups WHERE last = ?", last + more, first + more, last),
    ]
    # Of a copy of the last one, the chain counts too few rows.
    words = f"events {first + more} to {last + more}"
    return Damage(statements, first + more, last + more, words)


def a_snapshot_is_another(kept, rng):
    number = rng.choice(kept.snapshots)
    change = rng.choice(["crc = crc + 1", "state = state || ' '"])
    statement = f"UPDATE snapshots SET {change} WHERE seq = ?"
    words = f"the snapshot at event {number} was changed"
    return Damage([(statement, number)], number, number, words)


def a_snapshot_precedes_the_first(kept, _):
    statement = "UPDATE snapshots SET seq = 0 WHERE seq = ?"
    words = "a snapshot of event 0 was inserted"
    return Damage([(statement, kept.snapshots[0])], 0, 0, words)


def keys_are_others(kept, rng):
    statement = rng.choice(
        [
            "DELETE FROM keys WHERE key = 'k0'",
            "INSERT INTO keys VALUES ('kx', 'abs/0')",
            "UPDATE keys SET task_id = 'fail/0' WHERE key = 'k1'",
        ]
    )
    words = "its idempotency keys are not those of its tasks"
    return Damage([(statement,)], 0, 0, words)


DAMAGES = [
    *(commits_are_gone, the_beginning_is_gone, the_end_is_gone, all_is_gone),
    *(the_events_of_a_commit_are_gone, an_event_is_gone, an_event_is_another),
    *(two_events_change_places, a_group_is_gone, a_group_is_another),
    *(events_follow_the_end, an_event_precedes_the_first, a_group_precedes_the_first),
    *(a_commit_follows_the_end, a_snapshot_is_another, a_snapshot_precedes_the_first),
    keys_are_others,
]


RANDOM = st.randoms(use_true_random=False)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@given(rng=RANDOM)
def test_what_was_done_is_said_in_its_words(kept, damage, rng):
    done = damage(kept, rng)
    assert done.words in (kept.problem([done]) or ""), done


@given(rng=RANDOM)
def test_of_several_the_first_is_named_by_its_events(kept, rng):
    done = [rng.choice(DAMAGES)(kept, rng) for _ in range(rng.choice([2, 2, 3]))]
    problem = kept.problem(done)
    if problem is None:
        # The database has refused it.
        return
    assert problem, done
    concerned = {n for each in done for n in range(each.first, each.last + 1)}
    for first, last in re.findall(r"events (-?\d+) to (-?\d+)", problem):
        assert concerned.issuperset(range(int(first), int(last) + 1)), (problem, done)
