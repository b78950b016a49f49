"""A journal proves what it is: chain, checkpoints and proofs, and who attacks them."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import stat
import subprocess
import threading
from base64 import b64decode, b64encode
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path

import attrs
import pytest
from hypothesis import assume, given, strategies as st
from tests.ext.proofs.proving import (
    InAFile,
    OnAServer,
    forget,
    live,
    single_changes,
)

from taskorch import TaskOrchestrator
from taskorch.api.journal import SqliteJournal, open_journal
from taskorch.core.journal._copying import copy_journal
from taskorch.core.journal._reader import Reader
from taskorch.core.journal._sqlite_session import session_of
from taskorch.errors import InvalidTaskError, JournalError
from taskorch.ext.command_line import main
from taskorch.ext.proofs import (
    check_proof,
    make_checkpoint,
    make_key,
    prove_event,
    prove_extension,
    verify,
)
from taskorch.ext.proofs._anchors import checkpoints_at
from taskorch.ext.proofs._notes import (
    PublicKey,
    is_signed,
    public_key_of,
    read_private_key,
)


@pytest.fixture(params=[InAFile, OnAServer], ids=lambda kind: kind.__name__)
def backend(request, tmp_path, postgres):
    return request.param(tmp_path, postgres)


@pytest.fixture
def file(tmp_path):
    return InAFile(tmp_path, None)


@pytest.fixture
def key(tmp_path):
    """The file of a key; that of what checks its signatures is beside it."""
    make_key(tmp_path / "audit.key")
    return str(tmp_path / "audit.key")


@pytest.fixture
def place(tmp_path):
    """Where checkpoints are kept."""
    return str(tmp_path / "elsewhere.anchor")


def is_changed(backend, table, rows, names, anchors=()):
    """Whether it is seen that a table has these rows; it has the old ones afterwards."""
    before = backend.rows(table)[1]
    try:
        backend.put(table, names, rows)
    except Exception:
        # The database itself takes no such thing.
        return True
    else:
        result = verify(backend.place, anchors)
        return not result.ok and bool(result.problem)
    finally:
        backend.put(table, names, before)


# -- what is changed is found ----------------------------------------------------------


def fill(backend):
    live(backend.place, 0)
    live(backend.place, 1)
    forget(backend.place, "pow/0/1", "abs/0")
    assert verify(backend.place).ok


def find_all(backend, changes):
    columns = {table: backend.rows(table)[0] for table in backend.tables}
    for table, what, rows in changes:
        assert is_changed(backend, table, rows, columns[table]), f"{table}: {what}"
    assert verify(backend.place).ok


def test_some_single_changes_are_found(backend):
    fill(backend)
    find_all(backend, random.Random(1).sample([*single_changes(backend)], 15))


@pytest.mark.slow("every single change")
def test_every_single_change_is_found(backend):
    """
    Each column of each row is another or gone; rows go, come twice, change places.

    On a server, which takes its time, one of eight.
    """
    fill(backend)
    step = 8 if isinstance(backend, OnAServer) else 1
    find_all(backend, [*single_changes(backend)][::step])


class UndoneError(Exception):
    """A change is taken back."""


def find_double_changes(file, count):
    """Two changes at once, of numbers or texts of events and groups, many times."""
    fill(file)
    rng = random.Random(7)
    names, rows = {}, {}
    for table in ("facts", "groups"):
        names[table], rows[table] = file.rows(table)

    def change(db):
        done = set()
        while len(done) < 2:
            table = rng.choice(["facts", "groups"])
            n, c = rng.randrange(len(rows[table])), rng.randrange(5)
            if (table, n, c) in done:
                continue
            value, name, first = rows[table][n][c], names[table][c], names[table][0]
            new = value + 1 if type(value) is int else f"{value or ''}{rng.random()}"
            statement = f"UPDATE {table} SET {name} = ? WHERE {first} = ?"
            with suppress(sqlite3.IntegrityError):
                if db.execute(statement, (new, rows[table][n][0])).rowcount:
                    done.add((table, n, c))
        return done

    with closing(sqlite3.connect(file.place, isolation_level=None)) as db:
        session = session_of(db, Path(file.place))
        for _ in range(count):
            with suppress(UndoneError), session.transaction():
                done = change(db)
                with pytest.raises(JournalError):
                    assert not list(Reader(session).proved()), done
                raise UndoneError
    assert verify(file.place).ok


def test_double_changes_are_found(file):
    find_double_changes(file, 100)


@pytest.mark.slow("ten thousand changes")
def test_ten_thousand_double_changes_are_found(file):
    find_double_changes(file, 10_000)


def test_the_first_change_is_named(file):
    """By the events of its commit."""
    live(file.place)
    rows = file.run("SELECT first, last FROM groups ORDER BY last")
    for first, last in (rows[3], rows[1]):
        file.run("UPDATE facts SET at_ns = at_ns + 1 WHERE seq = ?", last)
        assert f"events {first} to {last} were changed" in verify(file.place).problem


#: Values of JSON, of each kind, in each other.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
)
BODIES = st.one_of(
    JSON.map(json.dumps),
    st.builds(
        lambda last: json.dumps([1, "pow/0/1", 1, "local", last]), st.lists(JSON) | JSON
    ),
    st.text(),
    st.integers(1, 9_999).map(lambda depth: "[" * depth + "]" * depth),
)


def test_whatever_a_changed_row_holds_its_change_is_named(tmp_path_factory):
    file = InAFile(tmp_path_factory.mktemp("forged"), None)
    live(file.place)
    rows = file.run("SELECT seq, body FROM facts WHERE kind = 'TaskCompleted'")

    @given(st.sampled_from(rows), st.sampled_from(["body", "doc"]), BODIES)
    def is_named(row, column, text):
        seq, old = row
        ((first, last),) = file.run(
            "SELECT first, last FROM groups WHERE last >= ? ORDER BY last LIMIT 1", seq
        )
        ((doc,),) = file.run("SELECT doc FROM facts WHERE seq = ?", seq)
        before = old if column == "body" else doc
        assume(text != (before or "") and text.isprintable())
        file.run(f"UPDATE facts SET {column} = ? WHERE seq = ?", text, seq)
        problem = verify(file.place).problem
        file.run(f"UPDATE facts SET {column} = ? WHERE seq = ?", before, seq)
        assert problem == f"events {first} to {last} were changed"

    is_named()
    assert verify(file.place).ok


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a commit", "events {first} to {last} are missing"),
        ("its events", "events {first} to {last} are missing"),
        ("one event", "events {last} to {last} are missing"),
        (
            "what guards it",
            "events {first} to {last} are in no group: they were inserted",
        ),
        ("the beginning", "the beginning, up to {last}, is gone"),
        ("the end", "the end after {last} is gone: a snapshot is of event {end}"),
        ("all", "all events, up to {end}, are gone"),
    ],
)
def test_what_was_taken_away_is_named_with_its_range(file, what, words):
    live(file.place)
    groups = file.run("SELECT first, last FROM groups ORDER BY last")
    first, last = groups[3]
    ((end,),) = file.run("SELECT max(seq) FROM snapshots")
    both = {
        "a commit": (f"BETWEEN {first} AND {last}", True),
        "its events": (f"BETWEEN {first} AND {last}", False),
        "one event": (f"= {last}", False),
        "the beginning": (f"<= {last}", True),
        "the end": (f"> {last}", True),
        "all": ("> 0", True),
    }
    if what in both:
        which, with_group = both[what]
        file.run(f"DELETE FROM facts WHERE seq {which}")
        if with_group:
            file.run(f"DELETE FROM groups WHERE last {which}")
    else:
        file.run("DELETE FROM groups WHERE last = ?", last)
    result = verify(file.place)
    assert not result.ok
    assert words.format(first=first, last=last, end=end) in result.problem


def test_what_was_put_in_is_named_with_its_place(file):
    live(file.place)
    ((last,),) = file.run("SELECT max(last) FROM groups")
    file.run(
        "INSERT INTO facts SELECT ?, kind, at_ns, task_id, body, doc FROM facts"
        " WHERE seq = (SELECT max(seq) FROM facts)",
        last + 1,
    )
    number = last + 1
    words = f"events {number} to {number} are in no group: they were inserted"
    assert words in verify(file.place).problem


@pytest.mark.parametrize(("lives", "words"), [(1, "1 time"), (3, "3 times")])
def test_of_a_journal_without_anything_it_is_said_how_often_it_was_opened(
    file, lives, words
):
    for incarnation in range(lives):
        live(file.place, incarnation)
    for table in ("facts", "groups", "keys", "snapshots"):
        file.run(f"DELETE FROM {table}")
    text = f"{file.place} is empty, and was opened {words}."
    assert text in str(verify(file.place))


def test_each_hash_goes_on_from_the_one_before(file):
    """Over what is kept, to the letter: columns of the rows of a commit."""
    with TaskOrchestrator(journal=file.place) as orch:
        list(orch.map(abs, range(5)))
    ((chain,),) = file.run("SELECT chain FROM meta")
    before, size, after = sha256(f"taskorch {chain}\n".encode()).digest(), 0, 0
    groups = file.run("SELECT first, last, epoch, crc, hash FROM groups ORDER BY last")
    assert len(groups) > 2
    for first, last, epoch, crc, digest in groups:
        rows = file.run(
            "SELECT seq, kind, at_ns, coalesce(task_id, ''), body, coalesce(doc, '')"
            " FROM facts WHERE seq > ? AND seq <= ? ORDER BY seq",
            after,
            last,
        )
        size, after = size + len(rows), last
        columns = "".join(
            f"{value}\n" for column in zip(*rows, strict=True) for value in column
        )
        text = f"{first} {last} {epoch} {crc} {size}\n{epoch}\n{columns}"
        before = sha256(before + text.encode()).digest()
        assert digest == before


def rewritten(file, tmp_path, change):
    """All anew, with right sums and hashes, as *change* has its rows."""
    new = InAFile(tmp_path, None)
    with closing(open_journal(new.place)) as journal:
        journal.claim()
    ((uid, chain),) = file.run("SELECT uid, chain FROM meta")
    new.run("UPDATE meta SET uid = ?, chain = ?", uid, chain)
    with closing(open_journal(new.place)) as journal:
        epoch = journal.claim()
        for row in change(list(open_journal(file.place).rows())):
            journal.append(epoch, [row])
    return new


def test_who_writes_all_anew_is_found_by_a_checkpoint_alone(file, tmp_path, key, place):
    live(file.place)
    first = make_checkpoint(file.place, key, to=[place])
    live(file.place, 1)
    second = make_checkpoint(file.place, key, to=[place])

    def late(rows):
        number, kind, at, *others = rows[first.size]
        before, after = rows[: first.size], rows[first.size + 1 :]
        return [*before, (number, kind, at + 1, *others), *after]

    new = rewritten(file, tmp_path, late)
    alone = verify(new.place)
    assert alone.ok
    assert "can write all of it anew" in str(alone)
    result = verify(new.place, [place], trust=[f"{key}.pub"])
    assert not result.ok
    assert f"some of events {first.last + 1} to {second.last}" in result.problem
    assert [each.state for each in result.checkpoints] == ["fits", "differs"]
    with pytest.raises(JournalError, match="is not what it was"):
        make_checkpoint(new.place, key, to=[place])
    assert verify(file.place, [place], trust=[f"{key}.pub"]).ok


def test_a_tail_that_is_gone_is_found_by_a_checkpoint(backend, key, place):
    live(backend.place)
    whole = {table: backend.rows(table) for table in backend.tables}
    live(backend.place, 1)
    make_checkpoint(backend.place, key, to=[place])
    for table, (names, rows) in whole.items():
        backend.put(table, names, rows)
    assert verify(backend.place).ok
    result = verify(backend.place, [place], trust=[f"{key}.pub"])
    assert "the end after " in result.problem


def test_a_beginning_that_is_gone_is_found(backend):
    live(backend.place)
    names, groups = backend.rows("groups")
    events, rows = backend.rows("facts")
    last = groups[0][names.index("last")]
    backend.put("groups", names, groups[1:])
    backend.put("facts", events, [r for r in rows if r[events.index("seq")] > last])
    assert not verify(backend.place).ok


def test_two_that_went_on_from_one_are_told_apart(file, tmp_path, key, place):
    """A copy goes on, too, and the same key signs both."""
    live(file.place)
    other, theirs = str(tmp_path / "fork.db"), str(tmp_path / "fork.anchor")
    shutil.copy(file.place, other)
    make_checkpoint(file.place, key, to=[place])
    # The other one is the shorter: a longer one might be this one, cut.
    live(file.place, 1)
    live(file.place, 3)
    live(other, 2)
    make_checkpoint(file.place, key, to=[place])
    with pytest.raises(JournalError, match="is not what it was"):
        make_checkpoint(other, key, to=[place])
    make_checkpoint(other, key, to=[theirs])
    result = verify(file.place, [place, theirs], trust=[f"{key}.pub"])
    assert "another copy of the journal went on" in result.problem
    assert not verify(other, [place], trust=[f"{key}.pub"]).ok
    if len({each.checkpoint.size for each in result.checkpoints}) == 2:
        assert "there are two" in str(result)


def test_an_old_checkpoint_that_is_kept_again_changes_nothing(file, key, place):
    live(file.place)
    old = make_checkpoint(file.place, key, to=[place])
    whole = Path(file.place).read_bytes()
    live(file.place, 1)
    make_checkpoint(file.place, key, to=[place])
    trust = [f"{key}.pub"]
    assert [each.note for each in verify(file.place, [place]).checkpoints] == ["", ""]
    with Path(place).open("a") as anchor:
        anchor.write(f"\n{old}")
    result = verify(file.place, [place], trust=trust)
    assert result.ok
    notes = [each.note for each in result.checkpoints]
    assert notes == ["", "", "an earlier one, kept again after a later one"]
    # Nor does it cover who goes back to what it says.
    Path(file.place).write_bytes(whole)
    assert "the end after " in verify(file.place, [place], trust=trust).problem


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2020-01-01T00:00:00Z", "its time is before that of the one before it"),
        ("2999-01-01T00:00:00Z", "its time is in the future"),
    ],
)
def test_a_clock_that_lies_is_said(file, key, place, at, words):
    live(file.place)
    made = make_checkpoint(file.place, key, to=[place])
    lie = read_private_key(key).signed(attrs.evolve(made, at=at, signatures=()))
    with Path(place).open("a") as anchor:
        anchor.write(f"\n{lie}")
    result = verify(file.place, [place], trust=[f"{key}.pub"])
    assert result.ok
    assert [each.note for each in result.checkpoints] == ["", words]


def test_a_key_that_is_not_trusted_proves_nothing(file, tmp_path, key, place):
    """A lost one is named no more in the file of trusted keys."""
    live(file.place)
    make_checkpoint(file.place, key, to=[place])
    new = tmp_path / "new.key"
    name = make_key(new, "ann@example.com")
    only_old = verify(file.place, [place], trust=[f"{new}.pub"])
    assert only_old.problem == "no trusted key signed any checkpoint"
    assert "which is not trusted: nothing is concluded from it" in str(only_old)
    make_checkpoint(file.place, str(new), to=[place])
    both = verify(file.place, [place], trust=[f"{new}.pub"])
    assert both.ok
    assert [each.state for each in both.checkpoints] == ["ignored", "fits"]
    assert both.checkpoints[1].signed_by == name
    # Who has the lost key says what he likes.
    point = both.checkpoints[0].checkpoint
    lie = attrs.evolve(point, root=b"\0" * 32, signatures=())
    with Path(place).open("a") as anchor:
        anchor.write(f"\n{read_private_key(key).signed(lie)}")
    assert verify(file.place, [place], trust=[f"{new}.pub"]).ok
    assert not verify(file.place, [place], trust=[f"{key}.pub"]).ok


@pytest.mark.parametrize(
    "change",
    [("event ", "event 1"), ("left out 0", "left out 1"), ("time 2", "time 1")],
)
def test_a_checkpoint_that_was_changed_is_found(file, key, place, change):
    live(file.place)
    make_checkpoint(file.place, key, to=[place])
    text = Path(place).read_text()
    Path(place).write_text(text.replace(*change))
    result = verify(file.place, [place], trust=[f"{key}.pub"])
    assert "the signature of audit+" in result.problem
    with pytest.raises(JournalError):
        make_checkpoint(file.place, key, to=[place])


@pytest.mark.parametrize("text", ["nonsense", "a\nb\nc\n\n— x y\n", "taskorch/x\n1\n"])
def test_what_is_no_checkpoint_is_refused(file, place, text):
    live(file.place)
    Path(place).write_text(text)
    with pytest.raises(InvalidTaskError, match="is no checkpoint of a journal"):
        verify(file.place, [place])
    Path(place).write_text("")
    assert verify(file.place, [place]).problem == "no checkpoint is kept there"


def test_one_of_another_journal_is_told(file, tmp_path, key, place):
    other = InAFile(tmp_path, None)
    live(file.place)
    live(other.place)
    make_checkpoint(other.place, key, to=[place])
    result = verify(file.place, [place], trust=[f"{key}.pub"])
    assert result.problem == "no checkpoint is of this journal"


# -- it is used meanwhile --------------------------------------------------------------


def test_it_is_checked_and_signed_while_it_is_written(backend, key, place):
    with TaskOrchestrator(journal=backend.place) as orch:
        # As much as it takes to write meanwhile: all that there is, is read each time.
        batches, over = threading.Semaphore(0), threading.Event()

        def work():
            while batches.acquire() and not over.is_set():
                list(orch.map(abs, range(20)))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            orch.submit(abs, -1).result(60)
            for _ in range(5):
                batches.release(2)
                make_checkpoint(backend.place, key, to=[place])
                batches.release(2)
                result = verify(backend.place, [place], trust=[f"{key}.pub"])
                assert result.ok, str(result)
        finally:
            over.set()
            batches.release()
            thread.join()
    result = verify(backend.place, [place], trust=[f"{key}.pub"])
    assert result.compared == 5


# -- retention, copies, earlier versions -----------------------------------------------


def test_what_is_left_is_proved_by_the_old_checkpoints(backend, key, place):
    """Nothing of what goes is needed, and less and less of it is kept."""
    live(backend.place)
    live(backend.place, 1)
    made = make_checkpoint(backend.place, key, to=[place])
    proofs = [prove_event(backend.place, 1, [place])]
    for gone in (["pow/0/0"], ["abs/1", "pow/1/1"], ["pow/0/1", "abs/0", "fail/0"]):
        assert forget(backend.place, *gone)
        result = verify(backend.place, [place], trust=[f"{key}.pub"])
        assert result.ok, str(result)
        assert result.compared == 1
        assert result.root == made.root
        proofs.append(prove_event(backend.place, 1, [place]))
    assert f"Retention has left out {result.left_out} rows" in str(result)
    assert [proof["path"] for proof in proofs] == [proofs[0]["path"]] * 4
    with pytest.raises(InvalidTaskError, match="no event 4 in its chain"):
        prove_event(backend.place, 4, [place])
    # What is left is guarded as before.
    names, rows = backend.rows("facts")
    body = names.index("body")
    other = [(*r[:body], r[body] + " ", *r[body + 1 :]) for r in rows]
    assert is_changed(backend, "facts", [other[0], *rows[1:]], names)


def test_a_pruned_journal_keeps_a_few_hashes_alone(file, key, place):
    with TaskOrchestrator(journal=file.place) as orch:
        list(orch.map(abs, range(500)))
    made = make_checkpoint(file.place, key, to=[place])
    ids = [name for _, name in SqliteJournal(file.place).submitted(0, 10**9, 10**9)]
    forget(file.place, *ids)
    assert verify(file.place, [place], trust=[f"{key}.pub"]).root == made.root
    gone = file.run("SELECT sum(length(gone)) FROM groups")[0][0]
    assert verify(file.place).left_out > 1_000
    assert gone < 5_000


def test_groups_of_very_many_are_proved_in_their_parts(backend, key, place):
    """Before something leaves them they are parted, and so are large rests."""
    names = [f"t{number % 50}" for number in range(5_000)]
    rows = [(n, "TaskCancelled", n, name, "[]", "") for n, name in enumerate(names, 1)]
    with closing(open_journal(backend.place)) as journal:
        epoch = journal.claim()
        journal.append(epoch, rows)
        journal.append(epoch, [(5_001, "TaskCancelled", 5_001, "t0", "[]", "")])
    make_checkpoint(backend.place, key, to=[place])
    some = names[:40]
    with closing(open_journal(backend.place)) as journal:
        epoch = journal.claim()
        for gone in (["t3"], ["t4", "t5"], some):
            journal.prepare_to_forget(epoch)
            # No group has very many events any more.
            assert len(backend.rows("groups")[1]) >= len(rows) // 1_000 or gone == some
            assert verify(backend.place, [place], trust=[f"{key}.pub"]).compared == 1
            assert journal.forget(epoch, gone)
            journal.append(epoch, [(journal.last + 1, "TaskCancelled", 1, "x", "", "")])
            result = verify(backend.place, [place], trust=[f"{key}.pub"])
            assert (result.ok, result.compared) == (True, 1)
    assert verify(backend.place).left_out == 5_001 // 50 * 40 + 1
    names, groups = backend.rows("groups")
    column = names.index("gone")
    (n, row) = next((n, row) for n, row in enumerate(groups) if row[column])
    other = row[column][:-1] + ("0" if row[column][-1] != "0" else "1")
    groups[n] = (*row[:column], other, *row[column + 1 :])
    assert is_changed(backend, "groups", groups, names)


def test_who_leaves_out_more_than_he_says_is_seen_by_the_counts(file, key, place):
    live(file.place)
    made = make_checkpoint(file.place, key, to=[place])
    assert made.left_out == 0
    forget(file.place, "fail/0")
    (checked,) = verify(file.place, [place], trust=[f"{key}.pub"]).checkpoints
    assert verify(file.place).left_out > checked.checkpoint.left_out


def test_checkpoints_among_what_is_gone_cannot_be_compared(file, key, place):
    """A later one still covers all that is there."""
    with TaskOrchestrator(journal=file.place) as orch:
        list(orch.map(abs, range(40)))
        make_checkpoint(file.place, key, to=[place])
        list(orch.map(abs, range(40)))
    make_checkpoint(file.place, key, to=[place])
    ids = [name for _, name in SqliteJournal(file.place).submitted(0, 10**9, 10**9)]
    forget(file.place, *ids)
    result = verify(file.place, [place], trust=[f"{key}.pub"])
    assert result.ok
    assert result.checkpoints[1].state == "fits"
    assert result.checkpoints[0].state in ("forgotten", "fits")


@pytest.mark.parametrize("way", [(0, 1), (1, 0), (0, 0)])
def test_a_copy_is_proved_by_the_checkpoints_of_the_first(
    way, tmp_path, postgres, key, place
):
    """Whichever database has it; and it goes on."""
    kinds = InAFile, OnAServer
    old, new = (kinds[kind](tmp_path, postgres) for kind in way)
    live(old.place)
    forget(old.place, "abs/0")
    made = make_checkpoint(old.place, key, to=[place])
    copy_journal(old.place, new.place)
    result = verify(new.place, [place], trust=[f"{key}.pub"])
    assert result.ok
    assert (result.log, result.root, result.left_out) == (
        made.log,
        made.root,
        made.left_out,
    )
    live(new.place, 1)
    later = make_checkpoint(new.place, key, to=[place])
    assert later.size > made.size
    assert verify(new.place, [place], trust=[f"{key}.pub"]).compared == 2


# -- proofs ----------------------------------------------------------------------------


def test_each_event_is_proved_and_each_two_checkpoints(backend, key, place):
    live(backend.place)
    first = make_checkpoint(backend.place, key, to=[place])
    live(backend.place, 1)
    make_checkpoint(backend.place, key, to=[place])
    trust = [f"{key}.pub"]
    rows = list(open_journal(backend.place).rows())
    for number, row in [*enumerate(rows)][::4]:
        proof = json.loads(json.dumps(prove_event(backend.place, row[0], [place])))
        proved = check_proof(proof, trust)
        assert proved.row == "\n".join(map(str, row))
        assert proved.signed_by.startswith("audit+")
        assert proof["place"] == number
        assert (proved.checkpoint == first) == (number < first.size)
    extension = check_proof(prove_extension(backend.place, [place]), trust)
    assert extension.checkpoint == first
    assert extension.later.size == len(rows)


def test_the_start_of_an_attempt_is_proved_by_the_row_of_its_end(file, key, place):
    with TaskOrchestrator(journal=file.place) as orch:
        list(orch.map(abs, range(50)))
    make_checkpoint(file.place, key, to=[place])
    numbers = {event.seq for event, _ in open_journal(file.place).read()}
    starts = sorted(numbers - {row[0] for row in open_journal(file.place).rows()})
    assert "TaskCompleted" in prove_event(file.place, starts[0], [place])["row"]


def test_a_proof_that_was_changed_proves_nothing(file, tmp_path, key, place):
    live(file.place)
    make_checkpoint(file.place, key, to=[place])
    live(file.place, 1)
    make_checkpoint(file.place, key, to=[place])
    trust = [f"{key}.pub"]
    event = prove_event(file.place, 3, [place])
    extension = prove_extension(file.place, [place])
    other = b64encode(b"\1" * 32).decode()
    for proof in (event, extension):
        check_proof(proof, trust)
        changes = [
            {"path": proof["path"][1:]},
            {"path": [*proof["path"], other]},
            {"path": [other, *proof["path"][1:]]},
            {"path": [*proof["path"][:-1], other]},
            {"path": proof["path"][::-1]},
            {"path": 7},
            {"form": "taskorch/proof/9"},
            {"checkpoint": proof["checkpoint"].replace("event", "Event")},
            {"checkpoint": proof["checkpoint"].replace("left out 0", "left out 3")},
            {"checkpoint": extension["later"], "later": extension["checkpoint"]},
        ]
        for change in changes:
            other_proof = {**proof, **change}
            if other_proof != proof:
                with pytest.raises(InvalidTaskError):
                    check_proof(other_proof, trust)
    for change in ({"row": event["row"] + " "}, {"place": 3}, {"place": -1}):
        with pytest.raises(InvalidTaskError):
            check_proof({**event, **change}, trust)
    make_key(tmp_path / "other.key")
    with pytest.raises(InvalidTaskError, match="no trusted key"):
        check_proof(event, [tmp_path / "other.key.pub"])
    for nothing in ({}, {"form": "taskorch/proof/1"}, {**event, "path": ["?"]}):
        with pytest.raises(InvalidTaskError):
            check_proof(nothing, trust)


def mth(leaves):
    """The definition of RFC 6962, to the letter."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def test_the_root_is_that_of_rfc_6962(file, key, place):
    live(file.place)
    for incarnation in range(1, 4):
        made = make_checkpoint(file.place, key, to=[place])
        rows = ["\n".join(map(str, row)) for row in open_journal(file.place).rows()]
        assert made.size == len(rows)
        assert made.root == mth([row.encode() for row in rows])
        live(file.place, incarnation)


@given(data=st.data())
def test_the_root_stays_whatever_goes_and_in_whatever_order(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gone")
    file = InAFile(folder, None)
    with closing(SqliteJournal(file.place, durability="process")) as journal:
        epoch, rows = journal.claim(), []
        sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
        for size in sizes:
            group = []
            for _ in range(size):
                number = len(rows) + 1
                name = data.draw(st.sampled_from(["a", "b", "c", ""]))
                group.append((number, "TaskCancelled", number, name, f"[{number}]", ""))
                rows.append(group[-1])
            journal.append(epoch, group)
        root = mth(["\n".join(map(str, row)).encode() for row in rows])
        for name in data.draw(st.permutations(["a", "b", "c"])):
            journal.forget(epoch, [name])
            rows = [row for row in rows if row[3] != name]
            roots = verify_root(journal)
            assert roots == (root, sum(sizes) - len(rows), sum(sizes))


def verify_root(journal):
    """The root, how many rows are gone, and how many there were."""
    from taskorch.ext.proofs._proving import _read
    from taskorch.ext.proofs._tree import GrowingTree

    tree = GrowingTree()
    seen = _read(journal, lambda subtrees, _: tree.add(subtrees))
    return tree.root(), seen.left_out, seen.size


# -- keys and anchors ------------------------------------------------------------------


def test_a_key_is_secret_and_is_never_written_over(tmp_path):
    path = tmp_path / "ann.key"
    name = make_key(path)
    assert name.startswith("ann+")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("PRIVATE+KEY+ann+")
    text = path.read_text()
    with pytest.raises(FileExistsError):
        make_key(path)
    assert path.read_text() == text
    for mode in (0o640, 0o604, 0o620, 0o602, 0o610, 0o601):
        path.chmod(mode)
        with pytest.raises(InvalidTaskError, match="can be read by others"):
            read_private_key(path)
    for bad in ("a b", "a+b", "", 7):
        with pytest.raises(InvalidTaskError, match="is no name of a key"):
            make_key(tmp_path / "other.key", bad)
    path.chmod(0o600)
    with pytest.raises(InvalidTaskError, match="has a line that is none") as error:
        verify("nowhere.db", trust=[path])
    assert text.strip() not in str(error.value)


def test_other_programs_read_what_we_sign():
    """The example of golang.org/x/mod/sumdb/note, which has the same form."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = public_key_of(text)
    assert str(key) == text
    value = b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6"
        "KE6RyyBwJnAM="
    )
    assert value[:4].hex() == key.number

    class Note:
        text = (
            "If you think cryptography is the answer to your problem,\n"
            "then you don't know what your problem is.\n"
        )

    from taskorch.ext.proofs._notes import Signature

    signature = Signature("PeterNeumann", key.number, value[4:])
    assert is_signed(Note, signature, {key.key: key})
    other = PublicKey(key.name, key.number, b"\1" * 32)
    assert not is_signed(Note, signature, {key.key: other})


def git(folder, *words):
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def test_notes_of_a_git_repository_keep_it(file, tmp_path, key):
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    git(repository, "config", "user.name", "ann")
    git(repository, "config", "user.email", "ann@example.com")
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    live(file.place)
    place = f"git:{repository}"
    made = [make_checkpoint(file.place, key, to=[place])]
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    live(file.place, 1)
    made.append(make_checkpoint(file.place, key, to=[place]))
    assert list(checkpoints_at(place)) == made
    assert verify(file.place, [place], trust=[f"{key}.pub"]).compared == 2
    with pytest.raises(JournalError, match="git notes failed"):
        make_checkpoint(file.place, key, to=[f"git:{tmp_path}"])


def test_a_webhook_is_sent_it(file, key):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    bodies = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            bodies.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    live(file.place)
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        made = make_checkpoint(file.place, key, to=[url])
        thread.join()
    assert bodies[0]["message_type"] == "checkpoint"
    assert bodies[0]["text"] == str(made)
    with pytest.raises(JournalError, match="has not taken the checkpoint"):
        make_checkpoint(file.place, key, to=[url])


# -- the command line ------------------------------------------------------------------


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    live("runs.db")
    assert main(["checkpoint", "--new-key", "audit.key"]) == 0
    assert main(["checkpoint", "runs.db", "--key", "audit.key"]) == 0
    note = capsys.readouterr().out.partition("taskorch/")[2]
    assert "— audit " in note
    for _ in range(2):
        words = ["--key", "audit.key", "--to", "runs.anchor"]
        assert main(["checkpoint", "runs.db", *words]) == 0
        live("runs.db", 1)
    trusting = ["--anchor", "runs.anchor", "--trust", "audit.key.pub"]
    capsys.readouterr()
    assert main(["verify", "runs.db", *trusting]) == 0
    assert capsys.readouterr().out.count("the journal extends it") == 2
    assert main(["prove", "runs.db", "4", "--anchor", "runs.anchor"]) == 0
    Path("event.json").write_text(capsys.readouterr().out)
    assert main(["prove", "--check", "event.json", "--trust", "audit.key.pub"]) == 0
    assert "TaskSubmitted" in capsys.readouterr().out
    assert main(["prove", "runs.db", "--anchor", "runs.anchor"]) == 0
    Path("two.json").write_text(capsys.readouterr().out)
    assert main(["prove", "--check", "two.json", "--trust", "audit.key.pub"]) == 0
    assert " extends that of " in capsys.readouterr().out
    with closing(sqlite3.connect("runs.db", isolation_level=None)) as db:
        db.execute("UPDATE facts SET body = body || ' ' WHERE seq = 3")
    assert main(["verify", "runs.db", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert main(["verify", "runs.db", *trusting]) == 1
    assert "runs.db is not what it was: events 1 to 3 were" in capsys.readouterr().out
    for wrong in (
        ["checkpoint", "runs.db"],
        ["checkpoint", "runs.db", "--new-key", "x.key"],
        ["prove", "runs.db", "3"],
        ["prove", "--check", "audit.key"],
        ["verify", "nowhere.db"],
    ):
        assert main(wrong) == 2, wrong
