"""The journals in tables: what one of them says of its rows, all say."""

import re
import sqlite3
from contextlib import closing, suppress
from functools import partial
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.core.journal.tools import ENTRIES, GROUPS, an_event
from tests.house.tables_journal import TablesJournal
from tests.house.tools.examples import examples

from taskorch import PostgresJournal, SqliteJournal, Task, TaskOrchestrator
from taskorch.api.journal import MemoryJournal
from taskorch.core.journal import _points, _reader
from taskorch.errors import JournalError, JournalTakenError
from taskorch.events import (
    OrchestratorStarted,
    TaskCancelled,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.ext.views import JournalReader
from taskorch.kit.address import KINDS
from taskorch.testing.laws import check_durable_journal

RESTORE = "restore the journal from a copy"
NUMBERS = count()


class InAFile:
    """A new journal in a file, and how its rows are changed behind its back."""

    def __init__(self, folder, _):
        self.place = str(folder / f"{next(NUMBERS)}.db")

    def open(self, **options):
        return SqliteJournal(self.place, durability="process", **options)

    def edit(self, statement, **words):
        words = {"facts": "facts", "groups": "groups", "mine": "", **words}
        words |= {"snapshots": "snapshots", "column": "", "value": ""}
        with closing(sqlite3.connect(self.place, isolation_level=None)) as db:
            return db.execute(statement.format(**words)).fetchall()


class OnAServer:
    """One in a PostgreSQL database."""

    def __init__(self, _, postgres):
        self.server, self.place = postgres, postgres.address()

    def open(self, **options):
        return PostgresJournal(self.place, durability="process", **options)

    def edit(self, statement, **words):
        name = self.place.partition("partition=")[2]
        number = f"(SELECT id FROM taskorch.partitions WHERE name = '{name}')"
        words |= {"mine": f"partition = {number} AND ", "value": f"{number}, "}
        words |= {"column": "partition, "}
        for table in ("facts", "groups", "snapshots"):
            words[table] = f"taskorch.{table}"
        return self.server.run(statement.format(**words))


class InOtherTables:
    """One of a kind that is in no module of the library."""

    def __init__(self, folder, _):
        self.place = str(folder / "all.db")
        self.name = f"j{next(NUMBERS)}"

    def open(self, **options):
        return TablesJournal(f"tables://{self.place}?{self.name}", **options)

    def edit(self, statement, **words):
        mine = f"(SELECT id FROM t_journals WHERE name = '{self.name}')"
        words |= {"mine": f"journal = {mine} AND ", "value": f"{mine}, "}
        words |= {"column": "journal, "}
        for table in ("facts", "groups", "snapshots"):
            words[table] = f"t_{table}"
        with closing(sqlite3.connect(self.place, isolation_level=None)) as db:
            return db.execute(statement.format(**words)).fetchall()


BACKENDS = [InAFile, OnAServer, InOtherTables]


@pytest.fixture(params=BACKENDS, ids=lambda kind: kind.__name__)
def backend(request, tmp_path, postgres):
    return request.param(tmp_path, postgres)


def fill(backend, groups=GROUPS, **options):
    with closing(backend.open(**options)) as journal:
        epoch = journal.claim()
        for group in groups:
            journal.append(epoch, group)


def words_of(error):
    """What is said of a journal, without its name."""
    return error.value.message.partition(" is damaged: ")[2]


# -- damage ----------------------------------------------------------------------------

#: What is done to the rows of `GROUPS`, how many entries come before, and what is said.
DAMAGE = [
    re.fullmatch(r"(.*) → (\d+): (.*)", line).groups()
    for line in """\
DELETE FROM {facts} WHERE {mine}seq = 3 → 2: events 3 to 3 are missing
DELETE FROM {facts} WHERE {mine}seq = 4 → 3: events 4 to 4 are missing
DELETE FROM {facts} WHERE {mine}seq = 5 → 3: events 5 to 5 are missing
DELETE FROM {facts} WHERE {mine}seq < 3 → 0: events 1 to 2 are missing
DELETE FROM {facts} WHERE {mine}seq = 9 → 5: events 9 to 9 are missing
DELETE FROM {facts} WHERE {mine}seq > 0 → 0: events 1 to 2 are missing
UPDATE {facts} SET body = '[1]' WHERE {mine}seq = 9 → 5: events 8 to 10 were changed
UPDATE {facts} SET at_ns = at_ns + 1 WHERE {mine}seq = 3 → 2: events 3 to 3 were changed
UPDATE {facts} SET task_id = 'v' WHERE {mine}seq = 3 → 2: events 3 to 3 were changed
UPDATE {facts} SET kind = 'TaskDue' WHERE {mine}seq = 3 → 2: events 3 to 3 were changed
UPDATE {facts} SET doc = '[2]' WHERE {mine}seq = 5 → 3: events 4 to 5 were changed
UPDATE {facts} SET seq = 6 WHERE {mine}seq = 5 → 3: events 5 to 5 are missing
DELETE FROM {groups} WHERE {mine}last = 3 → 2: events 3 to 3 are in no group: they were inserted, or what guards them is gone
UPDATE {groups} SET crc = crc + 1 WHERE {mine}last = 5 → 3: events 4 to 5 were changed
UPDATE {groups} SET epoch = 7 WHERE {mine}last = 3 → 2: events 3 to 3 were changed
UPDATE {groups} SET first = 2 WHERE {mine}last = 3 → 2: events 3 to 3 were changed
UPDATE {groups} SET form = 9 WHERE {mine}last = 3 → 2: events 3 to 3 were changed
""".splitlines()
]


@pytest.mark.parametrize(("statement", "whole", "words"), DAMAGE)
def test_an_event_that_is_gone_or_changed_is_damage(backend, statement, whole, words):
    """The groups before it are given, and not one after; everybody says the same."""
    fill(backend)
    backend.edit(statement)
    journal, entries = backend.open(), []
    with pytest.raises(JournalError) as error:
        entries.extend(entry for entry in journal.read())
    assert words_of(error) == words
    assert error.value.hint == RESTORE
    assert entries == ENTRIES[: int(whole)]
    with pytest.raises(JournalError) as error:
        journal.verify()
    assert words_of(error) == words


def test_events_behind_the_last_group_are_damage(backend):
    fill(backend)
    backend.edit(
        "INSERT INTO {facts} ({column}{more}seq, kind, at_ns, task_id, body)"
        " VALUES ({value}{one}11, 'TaskDue', 1, 't', '[1]')",
        more="epoch, " if isinstance(backend, OnAServer) else "",
        one="1, " if isinstance(backend, OnAServer) else "",
    )
    for use in (lambda j: [*j.read()], lambda j: j.claim(), lambda j: j.verify()):
        with pytest.raises(JournalError) as error:
            use(backend.open())
        assert words_of(error) == (
            "events 11 to 11 are in no group: "
            "they were inserted, or what guards them is gone"
        )
    with pytest.raises(JournalError) as error:
        list(backend.open().select(["t"], 99))
    assert words_of(error) == "event 11 is in no group"


@pytest.mark.parametrize(
    ("statement", "ids", "words"),
    [
        (
            "UPDATE {facts} SET body = '[1]' WHERE {mine}seq = 4",
            "t",
            "events 4 to 5 were changed",
        ),
        ("DELETE FROM {facts} WHERE {mine}seq = 4", "t", "events 4 to 4 are missing"),
        ("DELETE FROM {facts} WHERE {mine}seq = 9", "u", "events 9 to 9 are missing"),
    ],
)
def test_what_is_asked_of_some_tasks_is_checked_too(backend, statement, ids, words):
    fill(backend)
    backend.edit(statement)
    with pytest.raises(JournalError) as error:
        list(backend.open().select([*ids], 99))
    assert words_of(error) == words


def test_a_damaged_group_is_not_gone_on_from(backend):
    fill(backend)
    backend.edit("DELETE FROM {facts} WHERE {mine}seq = 10")
    with pytest.raises(JournalError) as error:
        backend.open().claim()
    assert words_of(error) == "events 10 to 10 are missing"
    assert backend.open().owner()["epoch"] == 1


def test_an_orchestrator_and_a_reader_say_that_an_event_is_gone(backend):
    """Not a KeyError of the task that it was about."""
    with TaskOrchestrator(journal=backend.open()) as orch:
        for number in range(3):
            orch.submit_task(Task.call(abs, -number, id=f"t/{number}")).result(60)
    backend.edit("DELETE FROM {snapshots} WHERE {mine}seq > 0")
    backend.edit(
        "DELETE FROM {facts} WHERE {mine}kind = 'TaskSubmitted' AND task_id = 't/1'"
    )
    words = r"is damaged: events (\d+) to \1 are missing"
    with pytest.raises(JournalError, match=words) as error:
        TaskOrchestrator(journal=backend.open()).start()
    assert error.value.hint == RESTORE
    for ask in (
        lambda reader: list(reader.tasks()),
        lambda reader: list(reader.happened()),
        lambda reader: reader.get_stats(),
    ):
        with pytest.raises(JournalError, match=words):
            ask(JournalReader(backend.open()))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (2, "events 3 to 3 were changed"),
        (3, "event 3 was kept, and it ends with event 3 now"),
    ],
)
def test_a_group_that_comes_again_is_compared_with_what_is_there(backend, last, words):
    with closing(backend.open()) as journal:
        epoch = journal.claim()
        journal.append(epoch, GROUPS[0])
        strike_once("kept", lambda: journal.append(epoch, GROUPS[1]))
        backend.edit(f"UPDATE {{groups}} SET crc = crc + 1 WHERE {{mine}}last = {last}")
        with pytest.raises(JournalError) as error:
            journal.append(epoch, GROUPS[1])
        assert words_of(error) == words


def test_on_a_server_the_last_groups_are_missed_too(tmp_path, postgres):
    """The number of the last fact stands beside the groups there."""
    backend = OnAServer(tmp_path, postgres)
    fill(backend)
    backend.edit("DELETE FROM {facts} WHERE {mine}seq > 5")
    backend.edit("DELETE FROM {groups} WHERE {mine}last > 5")
    for use in (lambda j: [*j.read()], lambda j: j.claim(), lambda j: j.verify()):
        with pytest.raises(JournalError) as error:
            use(backend.open())
        assert words_of(error) == "the end after 5 is gone: 10 was the last"


# -- what is left out ------------------------------------------------------------------


def test_a_rest_is_checked_as_a_group_is(backend):
    fill(backend)
    with closing(backend.open()) as journal:
        assert journal.forget(journal.claim(), ["u"]) == 2
        kept = [entry for entry in ENTRIES if entry[0][1] not in (3, 8)]
        assert list(journal.read()) == kept
        assert journal.verify() == len(kept)
    backend.edit("DELETE FROM {facts} WHERE {mine}seq = 9")
    with pytest.raises(JournalError) as error:
        list(backend.open().read())
    assert words_of(error) == "what is left of events 6 to 10 was changed"


@pytest.mark.parametrize(
    ("last", "words"),
    [(3, "events 2 to 3 are missing"), (1, "the beginning, up to 1, is gone")],
)
def test_what_is_gone_before_a_rest_is_missed(backend, last, words):
    """Its sum stands for itself: so it says where it begins."""
    fill(backend, [[an_event(number, f"t{number}")] for number in range(1, 7)])
    with closing(backend.open()) as journal:
        epoch = journal.claim()
        for name in ("t2", "t4", "t3"):
            assert journal.forget(epoch, [name]) == 1
    groups = "SELECT last FROM {groups} WHERE {mine}form = 2"
    assert sorted(backend.edit(groups)) == [(3,), (4,)]
    backend.edit(f"DELETE FROM {{facts}} WHERE {{mine}}seq = {last}")
    backend.edit(f"DELETE FROM {{groups}} WHERE {{mine}}last = {last}")
    with pytest.raises(JournalError) as error:
        list(backend.open().read())
    assert words_of(error) == words


def test_damage_gets_no_new_sum(backend):
    fill(backend)
    backend.edit("UPDATE {facts} SET body = '[1]' WHERE {mine}seq = 3")
    with closing(backend.open()) as journal:
        epoch = journal.claim()
        with pytest.raises(JournalError, match="events 3 to 3 were changed"):
            journal.forget(epoch, ["u"])
    assert len(backend.edit("SELECT seq FROM {facts} WHERE {mine}seq > 0")) == 8


def test_a_key_that_two_tasks_had_is_that_of_the_one_that_stays(backend):
    def submitted(seq, task_id):
        task = Task("x", idempotency_key="k")
        return TaskSubmitted(seq, seq, task_id, "x", 0), task

    fill(backend, [[submitted(1, "a")], [submitted(2, "b")]])
    with closing(backend.open()) as journal:
        assert journal.id_of_key("k") == "b"
        journal.forget(journal.claim(), ["b"])
        assert journal.id_of_key("k") == "a"
        assert journal.verify() == 1


def test_who_reads_while_something_is_left_out_sees_no_damage(backend, monkeypatch):
    """The part that is read next is of another shape than the one before."""
    monkeypatch.setattr(_reader, "_BATCH", 3)
    groups = [[an_event(n, f"t{n}")] for n in range(1, 21)]
    fill(backend, groups)
    with closing(backend.open()) as journal:
        epoch = journal.claim()
        for gone in (["t2", "t5"], ["t3", "t4"], ["t6", "t10"], ["t7", "t9", "t20"]):
            reader = journal.read()
            seen = [next(reader) for _ in range(4 if gone[0] < "t6" else 2)]
            journal.forget(epoch, gone)
            seen += reader
            numbers = [entry[0][1] for entry in seen]
            assert numbers == sorted(set(numbers))
            left = {entry[0][1] for entry in journal.read()}
            assert left <= set(numbers)
        assert journal.verify() == 20 - 9


def test_something_goes_from_a_rest_and_from_the_group_behind_it(backend):
    fill(
        backend,
        [[an_event(1, "a"), an_event(2, "b")], [an_event(3, "a"), an_event(4, "b")]],
    )
    with closing(backend.open()) as journal:
        epoch = journal.claim()
        journal.forget(epoch, ["b"])
        journal.append(epoch, [an_event(5, "a"), an_event(6, "c")])
        journal.append(epoch, [an_event(7, "a"), an_event(8, "c")])
        assert journal.forget(epoch, ["a"]) == 4
        assert [entry[0][1] for entry in journal.read()] == [6, 8]
        assert journal.verify() == 2
    assert backend.edit("SELECT last FROM {groups} WHERE {mine}last > 0") == [(8,)]


def test_who_asks_for_some_tasks_meanwhile_sees_no_damage(backend, monkeypatch):
    monkeypatch.setattr(_reader, "_FEW", 3)
    groups = [[an_event(n, f"t{n % 2}"), an_event(n + 1, "x")] for n in range(1, 40, 2)]
    fill(backend, groups)
    with closing(backend.open()) as journal:
        epoch = journal.claim()
        asked = backend.open().select(["t1"], 99)
        seen = [next(asked) for _ in range(2)]
        assert journal.forget(epoch, ["x"]) == 20
        assert [e[0][1] for e in [*seen, *asked]] == [*range(1, 40, 2)]


# -- snapshots -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {snapshots} SET state = '{{}}' WHERE {mine}seq = 5",
        "UPDATE {snapshots} SET crc = crc + 1 WHERE {mine}seq = 5",
        "UPDATE {snapshots} SET seq = 10 WHERE {mine}seq = 5",
    ],
)
def test_a_snapshot_that_was_changed_is_not_gone_on_from(backend, statement):
    with closing(backend.open()) as journal:
        epoch = journal.claim()
        for group in GROUPS:
            journal.append(epoch, group)
            if group[-1][0][1] in (2, 3, 5):
                journal.save(epoch, group[-1][0][1], {"at": group[-1][0][1]})
        assert journal.snapshot() == (5, {"at": 5})
        kept = backend.edit("SELECT seq FROM {snapshots} WHERE {mine}seq > 0")
        assert sorted(kept) == [(3,), (5,)]
        backend.edit(statement)
        assert journal.snapshot() == (3, {"at": 3})
        with pytest.raises(
            JournalError, match=r"the snapshot at event \d+ was changed"
        ):
            journal.verify()


# -- the same reading ------------------------------------------------------------------


class StruckError(Exception):
    """What a strike raises."""


def strike_once(point, do):
    """Do it, and have it fail where it reaches *point*, if it does."""

    def strike(reached):
        if reached == point:
            raise StruckError

    _points.install_fault(strike)
    try:
        with suppress(StruckError):
            do()
    finally:
        _points.install_fault(None)


IDS = [f"t{number}" for number in range(6)]
#: A task has the same key always; two may have one.
KEYS = dict(zip(IDS, [None, "k", "é"] * 2, strict=True))


@st.composite
def entries(draw):
    """One fact, without its number."""
    kind, task_id = draw(st.sampled_from("ssbbec")), draw(st.sampled_from(IDS))
    key, at_ns = KEYS[task_id], draw(st.integers(0, 9))
    value = draw(st.one_of(st.none(), st.text(max_size=9), st.integers()))
    match kind:
        case "s":
            task = Task("x", value, idempotency_key=key)
            return lambda seq: (TaskSubmitted(seq, at_ns, task_id, "x", 0), task)
        case "b":
            begun = lambda seq: TaskStarted(seq, at_ns, task_id, 1, "a", (), "")  # noqa: E731
            return lambda seq: (begun(seq), None)
        case "e":
            ended = lambda seq: TaskCompleted(seq, at_ns, task_id, 1, "a", 1)  # noqa: E731
            return lambda seq: (ended(seq), value)
        case _:
            return lambda seq: (TaskCancelled(seq, at_ns, task_id, "x"), None)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"),
            st.lists(entries(), min_size=1, max_size=5),
            st.sampled_from([None, None, "begin", "rows", "commit", "kept"]),
        ),
        st.tuples(
            st.just("forget"),
            st.sets(st.sampled_from(IDS), max_size=3),
            st.sampled_from([None, "forget", "rests", "forgotten"]),
        ),
        st.tuples(
            st.just("save"),
            st.integers(0, 30),
            st.sets(st.sampled_from(IDS), max_size=2),
        ),
        st.tuples(st.sampled_from(["reopen", "take_over"]), st.none(), st.none()),
    ),
    min_size=3,
    max_size=12,
)


class Model:
    """The journal in memory, from which facts can be left out."""

    def __init__(self):
        self.journal, self.gone, self.last = MemoryJournal(keep_events=True), set(), 0
        self.epoch = self.journal.claim()

    def append(self, group):
        self.journal.append(self.epoch, group)
        self.last = group[-1][0][1]

    def forget(self, ids):
        about = {
            seq for seq, task_id in map(self.of, self.journal.read()) if task_id in ids
        }
        gone = about - self.gone
        self.gone |= gone
        return len(gone)

    @staticmethod
    def of(entry):
        return entry[0][1], getattr(entry[0], "task_id", None)

    def read(self):
        return [e for e in self.journal.read() if e[0][1] not in self.gone]


def check_same(journal, model):
    kept = model.read()
    assert list(journal.read()) == kept
    for after in (model.last // 2, model.last):
        assert list(journal.read(after)) == [e for e in kept if e[0][1] > after]
    some = IDS[1::2]
    of_some = [e for e in kept if model.of(e)[1] in some]
    selected = [e for e in journal.select(some, 1 << 62) if not_begun(e)]
    assert selected == [e for e in of_some if not_begun(e)]
    ends = {model.of(e)[1]: type(e[0]).__name__ for e in of_some if is_end(e)}
    assert journal.ends(some) == ends
    submitted = [model.of(e) for e in kept if type(e[0]) is TaskSubmitted]
    assert journal.submitted(0, 1 << 62, 99) == submitted
    keys = {e[1].idempotency_key: e[0].task_id for e in kept if is_submission(e)}
    assert {k: journal.id_of_key(k) for k in keys if k} == {
        k: v for k, v in keys.items() if k
    }
    assert journal.verify() == len(kept)
    assert journal.last == model.last


def not_begun(entry):
    return type(entry[0]) is not TaskStarted


def is_end(entry):
    return type(entry[0]) in (TaskCompleted, TaskCancelled)


def is_submission(entry):
    return type(entry[0]) is TaskSubmitted


class Follower:
    """Does the same with a journal and with the model of it."""

    def __init__(self, backend):
        self.backend, self.model = backend, Model()
        #: The two latest snapshots by their numbers, and the tasks that they name.
        self.saved = {}
        self.take(backend.open())

    def take(self, journal):
        self.journal, self.epoch = journal, journal.claim()

    def append(self, makers, point):
        last = self.model.last
        group = [make(last + n) for n, make in enumerate(makers, 1)]
        if point is not None:
            strike_once(point, partial(self.journal.append, self.epoch, group))
        self.journal.append(self.epoch, group)
        self.model.append(group)

    def forget(self, ids, point):
        if point is not None:
            strike_once(point, partial(self.journal.forget, self.epoch, ids))
        gone, count = self.journal.forget(self.epoch, ids), self.model.forget(ids)
        # A start is in the row of its end, if that is in its group; and what was left
        # out when it was struck is not there again.
        assert gone <= count
        assert (gone > 0) == (count > 0) or point == "forgotten"
        if count:
            self.saved = {
                seq: names for seq, names in self.saved.items() if ids.isdisjoint(names)
            }

    def save(self, seq, names):
        if not 0 < seq <= self.model.last:
            with pytest.raises(ValueError, match="which was not kept"):
                self.journal.save(self.epoch, seq, self.state(seq, names))
            return
        self.journal.save(self.epoch, seq, self.state(seq, names))
        self.saved[seq] = names
        self.saved = dict(sorted(self.saved.items())[-2:])

    @staticmethod
    def state(seq, names):
        """Some of *names* are those of tasks, others of what still holds slots."""
        ids = sorted(names)
        return {"at": seq, "tasks": ids[::2], "gone": ids[1::2]}

    def reopen(self, *_):
        self.journal.close()
        self.take(self.backend.open())

    def take_over(self, *_):
        before, epoch = self.journal, self.epoch
        self.take(self.backend.open(take_over=True))
        with pytest.raises(JournalTakenError):
            before.append(epoch, [an_event(self.model.last + 1)])
        before.close()

    def check(self):
        check_same(self.journal, self.model)
        latest = max(self.saved.items(), default=None)
        expected = latest and (latest[0], self.state(*latest))
        assert self.journal.snapshot() == expected
        check_same(self.backend.open(), self.model)


def follow(backend, steps):
    """Do as *steps* say."""
    follower = Follower(backend)
    try:
        for name, *arguments in steps:
            getattr(follower, name)(*arguments)
        follower.check()
    finally:
        follower.journal.close()


@pytest.mark.parametrize("kind", BACKENDS, ids=lambda kind: kind.__name__)
def test_whatever_is_done_to_it_each_reads_as_memory_does(
    kind, tmp_path_factory, postgres
):
    @settings(max_examples=examples(8), suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def check(steps):
        follow(kind(tmp_path_factory.mktemp("j"), postgres), steps)

    check()


@pytest.mark.slow("ten times as many lives")
@pytest.mark.parametrize("kind", BACKENDS, ids=lambda kind: kind.__name__)
def test_whatever_is_done_to_it_for_long_each_reads_as_memory_does(
    kind, tmp_path_factory, postgres
):
    @settings(max_examples=examples(80), suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def check(steps):
        follow(kind(tmp_path_factory.mktemp("j"), postgres), steps)

    check()


# -- another database ------------------------------------------------------------------


def test_a_journal_of_another_database_is_one_file(tmp_path):
    latest = []

    def make():
        latest[:] = [InOtherTables(tmp_path, None)]
        return reopen()

    def reopen():
        return latest[0].open()

    check_durable_journal(make, reopen=reopen, examples=1)


def test_and_a_line_that_says_where_it_is(tmp_path, monkeypatch):
    """Then whoever takes the address of a journal takes its address."""
    monkeypatch.setitem(KINDS, "tables", "tests.house.tables_journal:TablesJournal")
    address = f"tables://{tmp_path}/all.db?mine"
    for _ in range(2):
        with TaskOrchestrator(journal=address) as orch:
            assert orch.submit_task(Task.call(abs, -7, id="t")).result(60) == 7
    reader = JournalReader(address)
    assert reader.get_task_status("t").attempts == 1
    assert reader.owner.epoch == 2
    assert next(type(event) for event in reader.events("t")) is TaskSubmitted
    assert OrchestratorStarted in {type(event) for event in reader.happened()}
