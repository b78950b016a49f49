"""
Outcomes of settled tasks, noted once by the workflow run that they belong to.

A task of a completed run without uncommon events is settled: its row of `lines` is
added to the line of its run. So a reader of runs folds only three kinds of events:
those of other tasks, which `rest` names; those of no task, which `told` names; and
those after the last noted event. `made` has the tasks and runs that schedules have
made.

The leader notes them together with a snapshot, in statements of the database alone.

Decision: lists-of-a-journal.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from taskorch.core.journal._session import IS_RARE
from taskorch.events import (
    AttemptReturned,
    ExtensionKept,
    OrchestratorStarted,
    ScheduleFired,
    ScheduleSkipped,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    TaskUnblocked,
)
from taskorch.kit.noted import NotedLine, NotedRuns
from taskorch.kit.plain import SCHEDULES, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskorch.core.journal._codec import Row
    from taskorch.core.journal._session import Session
    from taskorch.events import Event
    from taskorch.protocols import Entry

#: The fewest events that are noted at once, and the most with one snapshot.
LENGTH: Final = 4_000
AT_ONCE: Final = 40_000
MOST_NOTED: Final = 256_000

#: Only files have these tables, once there is anything to note.
_CREATE: Final = (
    """
    CREATE TABLE IF NOT EXISTS lines (
        run          TEXT NOT NULL,
        first        INTEGER NOT NULL,
        is_workflow  INTEGER NOT NULL,
        submitted_ns INTEGER NOT NULL,
        ended_ns     INTEGER NOT NULL,
        total        INTEGER NOT NULL,
        owners       TEXT NOT NULL,
        started_ns   INTEGER,
        worked_ns    INTEGER,
        spans        TEXT
    )
    """,
    "CREATE INDEX IF NOT EXISTS lines_by_run ON lines (run)",
    "CREATE INDEX IF NOT EXISTS lines_by_first ON lines (first)",
    """
    CREATE TABLE IF NOT EXISTS rest (
        task_id TEXT PRIMARY KEY,
        run     TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS rest_by_run ON rest (run)",
    """
    CREATE TABLE IF NOT EXISTS told (
        key TEXT PRIMARY KEY,
        seq INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS made (
        seq      INTEGER PRIMARY KEY,
        run      TEXT NOT NULL,
        schedule TEXT NOT NULL,
        slot_ns  INTEGER NOT NULL,
        by       TEXT NOT NULL
    )
    """,
    """
    CREATE TEMP TABLE IF NOT EXISTS settled (
        task_id      TEXT PRIMARY KEY,
        run          TEXT NOT NULL,
        first        INTEGER NOT NULL,
        submitted_ns INTEGER NOT NULL,
        owner        TEXT,
        began_ns     INTEGER,
        ended_ns     INTEGER NOT NULL,
        retries      INTEGER NOT NULL,
        retried_ns   INTEGER
    ) WITHOUT ROWID
    """,
)


def _place(cls: type[Event], name: str) -> str:
    """Return the JSON path of a field in the row of an event."""
    return f"'$[{cls.__match_args__.index(name) - 1}]'"


def _field(cls: type[Event], name: str, table: str = "f") -> str:
    """Return the SQL expression for a field of an event."""
    return f"json_extract({table}.body, {_place(cls, name)})"


_DIGIT: Final = "[0-9]"
_MINUTE: Final = "-".join((_DIGIT * 4, _DIGIT * 2, _DIGIT * 2)) + "T" + _DIGIT * 4
_STEM: Final = "substr(f.task_id, 1, instr(f.task_id || '~', '~') - 1)"
#: The part after the slash in the id of a task that a schedule made itself.
_TICKS: Final = " OR ".join(
    f"substr({_STEM}, instr(f.task_id, '/') + 1) GLOB '{_MINUTE}{more}Z'"
    for more in ("", _DIGIT * 2, f"{_DIGIT * 2}.{_DIGIT * 6}")
)
_FOLDER: Final = "substr(f.task_id, 1, max(0, instr(f.task_id, '/') - 1))"
#: The line that a submission is counted in; "" if in none.
_RUN: Final = f"""
    coalesce(nullif(coalesce({_field(TaskSubmitted, "run")}, {_FOLDER}), ''),
        CASE WHEN {_TICKS} THEN {_STEM} ELSE '' END)
"""
#: Uncommon events: tasks that have one are folded from their events.
_UNCOMMON: Final = ", ".join(
    f"'{cls.__name__}'"
    for cls in (
        *(TaskFailed, TaskCancelled, TaskBlocked, TaskUnblocked, TaskSuspended),
        AttemptReturned,
    )
)


def _is(cls: type[Event], table: str = "f") -> str:
    return f"{table}.kind = '{cls.__name__}'"


def _when(cls: type[Event], value: str) -> str:
    return f"max(CASE WHEN {_is(cls)} THEN {value} END)"


#: The tenant of a submission, and its run where the id does not contain it.
_SAID: Final = f"""json_extract(f.body, {_place(TaskSubmitted, "owner")},
    {_place(TaskSubmitted, "run")})"""
#: The event of a new incarnation.
_BEGAN: Final = f"{_is(OrchestratorStarted, 'facts')} AND {IS_RARE}"
_CLEAR: Final = "DELETE FROM settled"
#: Tasks of a run that is the first segment of their id, or that a schedule made.
_SETTLE: Final = f"""
    INSERT INTO settled
    SELECT task_id, CASE WHEN said LIKE '%,null]' THEN {_FOLDER} ELSE task_id END,
        first, submitted_ns, json_extract(said, '$[0]'),
        coalesce(began_ns, json_extract(start, '$[1]')), ended_ns,
        retries, json_extract(start, '$[1]')
    FROM (
        SELECT f.task_id, e.seq AS ended, e.at_ns AS ended_ns,
            json_extract(e.body, '$[5][0]', '$[5][1]') AS start,
            {_when(TaskSubmitted, _SAID)} AS said,
            {_when(TaskSubmitted, "f.seq")} AS first,
            {_when(TaskSubmitted, "f.at_ns")} AS submitted_ns,
            min(CASE WHEN {_is(TaskStarted)} THEN f.seq END) AS began,
            min(CASE WHEN {_is(TaskStarted)} THEN f.at_ns END) AS began_ns,
            sum(f.kind IN ({_UNCOMMON})) AS uncommon,
            sum({_is(TaskStarted)}) AS starts, sum({_is(TaskRetrying)}) AS retries
        FROM facts AS e CROSS JOIN facts AS f ON f.task_id = e.task_id
        WHERE e.seq > :after AND e.seq <= :until AND {_is(TaskCompleted, "e")}
            AND instr(e.task_id, '/') AND NOT instr(e.task_id, '~')
            AND f.seq <= :until
        GROUP BY e.seq
    ) AS f
    WHERE (said LIKE '%,null]' OR said LIKE '%,""]' AND ({_TICKS})) AND NOT uncommon
        AND starts + (start <> '[null,null]') IN (retries + 1, -retries)
        AND (
            coalesce(began, json_extract(start, '$[0]'), ended) > (
                SELECT max(seq) FROM facts WHERE seq <= :until AND {_BEGAN}
            ) OR NOT EXISTS (
                SELECT 1 FROM facts WHERE {_BEGAN} AND seq < ended
                AND seq > coalesce(began, json_extract(start, '$[0]'), ended)
            )
        )
"""  # noqa: S608 - of our own words
_LEAVES_REST: Final = """
    DELETE FROM rest WHERE task_id IN (SELECT task_id FROM settled)
"""
_RESTS: Final = f"""
    INSERT OR IGNORE INTO rest
    SELECT f.task_id, {_RUN} AS line FROM facts AS f
    WHERE f.seq > :after AND f.seq <= :until AND {_is(TaskSubmitted)}
        AND (line <> '' OR instr(f.task_id, '~'))
        AND f.task_id NOT IN (SELECT task_id FROM settled)
"""  # noqa: S608 - of our own words
_FAILED: Final = f"""
    INSERT OR IGNORE INTO rest
    SELECT f.task_id, '' FROM facts AS f
    WHERE f.seq > :after AND f.seq <= :until AND {_is(TaskFailed)}
"""  # noqa: S608 - of our own words
#: Times are noted where tasks of a run may have worked at the same time: durations are
#: not enough then.
_NOTE: Final = f"""
    INSERT INTO lines
    WITH attempts AS (
        SELECT s.run, f.kind, f.at_ns AS began,
            lead(f.at_ns) OVER (PARTITION BY f.task_id ORDER BY f.seq) AS ended
        FROM settled AS s CROSS JOIN facts AS f ON f.task_id = s.task_id
        WHERE s.retries AND f.at_ns <= s.ended_ns AND (
            {_is(TaskStarted)} OR {_is(TaskRetrying)} OR {_is(TaskCompleted)}
        )
    ), work AS (
        SELECT run, began, ended FROM attempts WHERE kind = '{TaskStarted.__name__}'
        UNION ALL
        SELECT run, began_ns, ended_ns FROM settled
        WHERE began_ns IS NOT NULL AND NOT retries
        UNION ALL
        SELECT run, retried_ns, ended_ns FROM settled
        WHERE retried_ns IS NOT NULL AND retries
    ), reached AS (
        SELECT *, max(ended) OVER (
            PARTITION BY run ORDER BY began, ended
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached FROM work
    ), numbered AS (
        SELECT *, sum(coalesce(began > reached, 1)) OVER (
            PARTITION BY run ORDER BY began, ended
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS number FROM reached
    ), spans AS (
        SELECT run, min(began) AS began, max(ended) AS ended
        FROM numbered GROUP BY run, number
    ), worked AS (
        SELECT run, min(began) AS started_ns, sum(ended - began) AS worked_ns,
            json_group_array(json_array(began, ended)) AS spans
        FROM spans GROUP BY run
    ), ended AS (
        SELECT run, min(first) AS first, min(submitted_ns) AS submitted_ns,
            max(ended_ns) AS ended_ns, count(*) AS total,
            json_group_array(DISTINCT owner) AS owners, run <> min(task_id) AS is_run
        FROM settled GROUP BY run
    )
    SELECT run, first, is_run, submitted_ns, ended_ns, total, owners, started_ns,
        worked_ns, CASE
            WHEN EXISTS (SELECT 1 FROM rest WHERE rest.run = ended.run)
            OR EXISTS (SELECT 1 FROM lines WHERE lines.run = ended.run) THEN spans
        END
    FROM ended LEFT JOIN worked USING (run)
"""  # noqa: S608 - of our own words
_TOLD: Final = f"""
    INSERT OR REPLACE INTO told
    SELECT CASE
        WHEN NOT {_is(ExtensionKept)} THEN f.seq
        WHEN {_field(ExtensionKept, "extension")} <> '{SCHEDULES}' THEN 'v/'
        WHEN instr({_field(ExtensionKept, "key")}, '/') THEN 's/'
        ELSE f.seq || ' ' END || CASE
        WHEN {_is(ExtensionKept)} THEN {_field(ExtensionKept, "key")} ELSE '' END,
        f.seq
    FROM facts AS f WHERE f.seq > :after AND f.seq <= :until AND (
        {_is(OrchestratorStarted)} OR {_is(ScheduleSkipped)} OR {_is(ExtensionKept)}
        AND ({_field(ExtensionKept, "extension")} = '{SCHEDULES}'
            OR {_field(ExtensionKept, "extension")} = '{VERSIONS}' AND EXISTS (
                SELECT 1 FROM facts AS t
                WHERE t.task_id >= {_field(ExtensionKept, "key")} || '/'
                AND t.task_id < {_field(ExtensionKept, "key")} || '0'
                AND t.seq < f.seq
            ) OR {_field(ExtensionKept, "extension")} = '{VERSIONS}' AND EXISTS (
                SELECT 1 FROM rest WHERE run = {_field(ExtensionKept, "key")}
            ))
    ) ORDER BY f.seq
"""  # noqa: S608 - of our own words
_FIRED: Final = f"""
    INSERT INTO made
    SELECT f.seq, {_field(ScheduleFired, "task_id")}, {_field(ScheduleFired, "name")},
        {_field(ScheduleFired, "slot_ns")},
        coalesce({_field(ScheduleFired, "by")}, '{ScheduleFired(0, 0, "", 0, "").by}')
    FROM facts AS f WHERE f.seq > :after AND f.seq <= :until AND {_is(ScheduleFired)}
"""  # noqa: S608 - of our own words
_END: Final = "SELECT max(last) FROM groups WHERE last <= min(:some, :until)"
_NEXT_END: Final = "SELECT min(last) FROM groups WHERE last > :after"
#: Notes the last event of all that is noted.
_REACHED: Final = "INSERT OR REPLACE INTO told VALUES ('', :until)"
#: Runs of forgotten tasks, which are folded from the events that stay.
_FORGOTTEN: Final = f"""
    SELECT DISTINCT {_RUN} AS line FROM json_each(:names)
    CROSS JOIN facts AS f ON f.task_id = value
    WHERE {_is(TaskSubmitted)} AND line <> ''
"""  # noqa: S608 - of our own words
_REST_AGAIN: Final = f"""
    INSERT OR IGNORE INTO rest
    SELECT f.task_id, r.value FROM json_each(:runs) AS r
    CROSS JOIN facts AS f ON f.task_id = r.value
        OR f.task_id >= r.value || '/' AND f.task_id < r.value || '0'
    WHERE {_is(TaskSubmitted)} AND f.seq <= :noted
        AND EXISTS (SELECT 1 FROM lines WHERE lines.run = r.value)
        AND {_RUN} = r.value
"""  # noqa: S608 - of our own words
_DROP_LINES: Final = """
    DELETE FROM lines WHERE run IN (SELECT value FROM json_each(:runs))
"""
_DROP_REST: Final = """
    DELETE FROM rest WHERE task_id IN (SELECT value FROM json_each(:names))
"""
_LAST: Final = "SELECT seq FROM told WHERE key = ''"
_LINES: Final = "SELECT * FROM lines ORDER BY first DESC LIMIT :most"
_EVENTS: Final = """
    SELECT f.seq, f.kind, f.at_ns, coalesce(f.task_id, ''), f.body, '' FROM
"""
_OF_REST: Final = f"""
    {_EVENTS} rest CROSS JOIN facts AS f ON f.task_id = rest.task_id
    WHERE f.seq <= :noted AND (rest.run <> ''
        OR {_is(TaskFailed)} OR {_is(TaskCompleted)} OR {_is(TaskCancelled)})
    ORDER BY f.seq
"""
_OF_ALL: Final = f"""
    {_EVENTS} told CROSS JOIN facts AS f ON f.seq = told.seq
    WHERE told.key <> '' ORDER BY f.seq
"""
_MADE: Final = "SELECT * FROM made ORDER BY seq DESC LIMIT :most"
_BEFORE: Final = "SELECT max(seq), at_ns FROM facts WHERE seq < :seq"


def noted(session: Session) -> int:
    """Return the number of the last event that is noted; 0 if none is."""
    rows = session.ask(_LAST) if session.has_lines else []
    return int(rows[0][0]) if rows else 0


def to_note(session: Session, until: int) -> list[tuple[int, int]]:
    """Return what to note with a snapshot at *until*: above a number, to another."""
    after = noted(session)
    until = min(until, after + MOST_NOTED)
    ends = [after]
    while until - ends[-1] >= LENGTH:
        # A start may stand in the row of its end, so whole groups are noted.
        ((end,),) = session.ask(_END, some=ends[-1] + AT_ONCE, until=until)
        if end is None or end <= ends[-1]:
            ((end,),) = session.ask(_NEXT_END, after=ends[-1])
        ends.append(end)
    return [*pairwise(ends)]


def note(session: Session, after: int, until: int) -> None:
    """Note the events above *after*, to *until*, in a transaction of the caller's."""
    for statement in (*_CREATE, _CLEAR):
        session.change(statement)
    between = {"after": after, "until": until}
    session.change(_SETTLE, **between)
    session.change(_LEAVES_REST)
    for statement in (_RESTS, _FAILED):
        session.change(statement, **between)
    session.change(_NOTE)
    for statement in (_TOLD, _FIRED):
        session.change(statement, **between)
    session.change(_REACHED, until=until)


def leave_out(session: Session, names: list[str]) -> None:
    """Remove *names*, which are to be forgotten, from the notes."""
    last = noted(session)
    if last:
        runs = [run for (run,) in session.ask(_FORGOTTEN, names=names)]
        session.change(_REST_AGAIN, runs=runs, noted=last)
        session.change(_DROP_LINES, runs=runs)
        session.change(_DROP_REST, names=names)


def asked(
    session: Session, most: int, decode: Callable[[list[Row]], list[Entry]]
) -> NotedRuns | None:
    """Return the notes, with *most* lines; None if nothing is noted."""
    last = noted(session)
    if not last:
        return None
    rows = [*map(NotedLine._make, session.ask(_LINES, most=most))]
    events = decode([*session.ask(_OF_REST, noted=last), *session.ask(_OF_ALL)])
    incarnations = [
        event.seq for event, _ in events if type(event) is OrchestratorStarted
    ]
    times = {seq: session.ask(_BEFORE, seq=seq)[0][1] or 0 for seq in incarnations}
    ((_, at_ns),) = session.ask(_BEFORE, seq=last + 1)
    runs = session.ask(_MADE, most=most)
    return NotedRuns(last, at_ns or 0, rows, events, runs, times)
