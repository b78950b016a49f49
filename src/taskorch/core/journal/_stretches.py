"""
Contents of stretches of a journal, noted once, so that lists can skip most of it.

A stretch is some thousand events. One text has the types, tenants and metadata that its
submissions name, and another their ids; there are counts of the tasks submitted and
completed in it. The leader notes that with a snapshot, for events that have been kept
for long. Events in no stretch yet are looked through, so nothing depends on the notes.

Decision: lists-of-a-journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from taskorch.events import Event, TaskCompleted, TaskStarted, TaskSubmitted

if TYPE_CHECKING:
    from taskorch.core.journal._session import Session

#: Texts of which one is in a column of a stretch, if any event there may pass; all
#: pairs must hold.
Words: TypeAlias = Sequence[tuple[str, Sequence[str]]]
#: The number of event numbers in one stretch.
LENGTH: Final = 4_000
#: The most stretches that are noted with one snapshot.
MOST_NOTED: Final = 64
#: How many stretches that pass are looked for at first, and at most.
_FIRST: Final = 8
_MOST: Final = 512

#: Statements of the leader: only files have this table, once there is anything to note.
CREATE: Final = """
    CREATE TABLE IF NOT EXISTS stretches (
        last      INTEGER PRIMARY KEY,
        first     INTEGER NOT NULL,
        began_ns  INTEGER,
        ended_ns  INTEGER,
        submitted INTEGER NOT NULL,
        completed INTEGER NOT NULL,
        words     TEXT NOT NULL,
        ids       TEXT NOT NULL
    )
"""


def _two(cls: type[Event], *names: str) -> str:
    """Return the SQL that reads two fields of an event, as JSON has them."""
    places = (cls.__match_args__.index(name) - 1 for name in names)
    paths = ", ".join(f"'$[{place}]'" for place in places)
    return f"WHEN '{cls.__name__}' THEN json_extract(body, {paths})"


_NAMED: Final = f"""
    CASE kind {_two(TaskSubmitted, "type", "owner")}
    {_two(TaskStarted, "attempt", "agent_id")}
    {_two(TaskCompleted, "attempt", "agent_id")} END
"""
#: All of a document from its metadata on.
_DESCRIBED: Final = """
    CASE WHEN kind = 'TaskSubmitted' AND instr(doc, '"metadata":')
    THEN substr(doc, instr(doc, '"metadata":')) END
"""
NOTE: Final = f"""
    INSERT INTO stretches
    SELECT :last, :first, min(at_ns), max(at_ns),
        coalesce(sum(kind = 'TaskSubmitted'), 0),
        coalesce(sum(kind = 'TaskCompleted'), 0),
        coalesce(group_concat(DISTINCT {_NAMED}), '')
            || coalesce(group_concat(DISTINCT {_DESCRIBED}), ''),
        coalesce(group_concat(
            CASE WHEN kind = 'TaskSubmitted' THEN task_id END, char(10)
        ), '')
    FROM facts WHERE seq >= :first AND seq <= :last
"""  # noqa: S608 - of our own words
#: Removes stretches with forgotten events.
UNCOVER: Final = """
    DELETE FROM stretches WHERE last IN (
        SELECT (SELECT min(last) FROM stretches WHERE last >= seq) FROM facts
        WHERE task_id IN (SELECT value FROM json_each(:names))
    )
"""
_NOTED: Final = "SELECT first, last FROM stretches ORDER BY last"
_COUNTED: Final = """
    SELECT first, last, submitted, completed, began_ns / :every, ended_ns / :every
    FROM stretches ORDER BY last
"""
_LOOKED: Final = """
    FROM stretches WHERE last > :after AND first <= :until ORDER BY last
"""


def unnoted(session: Session, until: int) -> Iterator[tuple[int, int]]:
    """
    Yield the stretches up to event *until* that are not noted: first and last.

    Those between others are where events were deleted.
    """
    noted = session.ask(_NOTED) if session.has_stretches else []
    reached = 0
    for first, last in noted:
        yield from parts(reached, first - 1)
        reached = last
    yield from parts(reached, until - (until - reached) % LENGTH)


def parts(after: int, until: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers above *after*, up to *until*, in stretches."""
    while after < until:
        last = min(after + LENGTH, until)
        yield after + 1, last
        after = last


def places(
    session: Session,
    words: Words,
    after: int,
    until: int,
    *,
    newest: bool = False,
) -> Iterator[tuple[int, int]]:
    """
    Yield where *words* may be, in order: above a number, to another.

    Stretches that have them are looked for a few at a time, since these may be enough.
    """
    values: dict[str, str] = {}
    conditions: list[str] = []
    for column, texts in words:
        names = {f"w{len(values) + i}": text for i, text in enumerate(texts)}
        values |= names
        either = " OR ".join(f"instr({column}, :{name})" for name in names)
        conditions.append(f"({either})")
    if not (conditions and session.has_stretches):
        yield after, until
        return
    order, many = "DESC" if newest else "", _FIRST
    passes = " AND ".join(conditions)
    statement = f"SELECT first, last, {passes} {_LOOKED} {order} LIMIT :most"
    while rows := session.ask(statement, **values, after=after, until=until, most=many):
        is_over = len(rows) < many
        for number, (first, last, passes) in enumerate(rows, 1):
            # The last stretch of a batch ends a place, too, but not the last of all.
            is_end = number == len(rows) and not is_over
            if newest:
                begin = first - 1 if passes else last
                if begin < until and (is_end or not passes):
                    yield max(after, begin), until
                until = min(until, first - 1) if is_end or not passes else until
            else:
                end = last if passes else first - 1
                if after < end and (is_end or not passes):
                    yield after, min(end, until)
                after = max(after, last) if is_end or not passes else after
        if is_over:
            break
        many = min(4 * many, _MOST)
    if after < until:
        yield after, until


def counted(
    session: Session, every_ns: int, *, is_noted: bool
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    """
    Return counts of stretches, and places where events must be counted one by one.

    Args:
        session: Asks the journal.
        every_ns: The length of a period, in ns.
        is_noted: Whether the notes can be relied on; if not, none are used.

    Returns:
        For each stretch within one period: the period, and the tasks submitted and
        completed; and the places, above a number, to another.
    """
    rows = session.ask(_COUNTED, every=every_ns) if is_noted else []
    counts, others = list[tuple[int, int, int]](), list[tuple[int, int]]()
    reached = 0
    for first, last, submitted, completed, began, ended in rows:
        if began == ended:
            others.append((reached, first - 1))
            counts.append((began, submitted, completed))
            reached = last
    others.append((reached, 2**63 - 1))
    return counts, [each for each in others if each[0] < each[1]]
