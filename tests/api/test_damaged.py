"""Damaged journals: all that was kept comes up, or it is said, and nothing is touched."""

import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    JournalTakenError,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    UnknownTaskError,
)
from taskorch.api.journal import SqliteJournal
from taskorch.errors import JournalError
from taskorch.protocols import Entry

pytestmark = pytest.mark.slow("opens many damaged copies")

#: As many tasks of each kind.
COUNT = 8


def echo(value: Any = None) -> Any:
    return value


def break_down(text: str) -> None:
    raise ZeroDivisionError(text)


@attrs.frozen
class Image:
    """The files of a journal as they were at one instant, and what had been said."""

    files: dict[str, bytes]
    #: All events, in order.
    entries: list[Entry]
    #: What became of each task: its result, or the text of its error.
    ends: dict[str, Any]

    def put(self, folder: Path) -> Path:
        """Write the files; the name of the journal."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder / "runs.db"


def fill(path: Path, lives: int, **options: Any) -> dict[str, Any]:
    """Some incarnations of an orchestrator; what was acknowledged."""
    ends: dict[str, Any] = {}
    for incarnation in range(lives):
        with TaskOrchestrator(journal=path, durability="process", **options) as orch:
            live(orch, incarnation, ends)
    return ends


def live(orch: TaskOrchestrator, life: int, ends: dict[str, Any]) -> None:
    """Do some work, and note what came of it."""
    for number in range(COUNT):
        name = f"{life}-{number}"
        value = {"life": life, "text": f"value {number} " * (20 * number)}
        task = Task.call(echo, value, id=name, idempotency_key=f"key {name}")
        ends[name] = orch.submit_task(task).result(PATIENCE)
    bad = orch.submit_task(Task.call(break_down, f"bad {life}", id=f"{life}-bad"))
    ends[f"{life}-bad"] = str(bad.exception(PATIENCE))


def take(path: Path, ends: dict[str, Any]) -> Image:
    """An image of the journal at *path*, which nobody is writing to."""
    files = {
        name: (path.parent / name).read_bytes()
        for name in ("runs.db", "runs.db-wal")
        if (path.parent / name).exists()
    }
    return Image(files, list(SqliteJournal(path).read()), dict(ends))


@pytest.fixture(name="image", scope="module", params=[10_000, 0])
def fixture_image(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """A journal that was closed; its finished tasks are in memory, or are not."""
    path = tmp_path_factory.mktemp("closed") / "runs.db"
    ends = fill(path, 3, keep_finished=request.param)
    return take(path, ends)


@pytest.fixture(name="crashed", scope="module")
def fixture_crashed(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """
    A journal as a kill leaves it: the latest incarnation is in its write-ahead log.
    """
    path = tmp_path_factory.mktemp("crashed") / "runs.db"
    ends = fill(path, 1)
    with TaskOrchestrator(journal=path, durability="process") as orch:
        live(orch, 1, ends)
        assert orch.wait(PATIENCE)
        image = take(path, ends)
    assert "runs.db-wal" in image.files
    return image


def contents(folder: Path) -> dict[str, bytes]:
    """The files that hold something that was kept."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.endswith((".lock", "-shm"))
    }


def check_refusal(error: JournalError) -> None:
    """It says what to do, and does not take damage for an owner that lives."""
    assert error.hint
    assert not isinstance(error, JournalTakenError)


def check_untouched(path: Path, before: dict[str, bytes]) -> None:
    """
    Nothing but the number of the incarnation may be another, in the row that has it.
    """
    after = contents(path.parent)
    assert after.keys() == before.keys()
    data, old = after.pop(path.name, b""), before.get(path.name, b"")
    assert all(before[name] == text for name, text in after.items())
    assert len(data) == len(old)
    page = 4096
    places = range(0, len(data), page)
    changed = [at for at in places if data[at : at + page] != old[at : at + page]]
    assert len(changed) <= 2, changed


def check_opening(path: Path, image: Image, *, least: int = 0) -> str:
    """
    Open the journal at *path*: it is refused and left as it is, or all in it is true.

    Args:
        path: The journal.
        image: What it was before it was damaged.
        least: As many events must be there if it comes up.

    Returns:
        What came of it.
    """
    before = contents(path.parent)
    orch = TaskOrchestrator(journal=path, durability="process", keep_finished=3)
    try:
        orch.start()
    except JournalError as error:
        check_refusal(error)
        check_untouched(path, before)
        return "refused"
    told = "whole"
    try:
        try:
            found = list(SqliteJournal(path).read())
        except JournalError:
            # It came up: what is damaged was not needed for that.
            told, found = "partly", []
        else:
            kept = sum(1 for entry in found if entry[0][1] <= image.entries[-1][0][1])
            common = next(
                (
                    number
                    for number, (one, other) in enumerate(
                        zip(found, image.entries, strict=False)
                    )
                    if one != other
                ),
                min(len(found), len(image.entries)),
            )
            # A prefix, and then only what this incarnation has added.
            assert common >= least
            added = [entry[0][0].__name__ for entry in found[common:][:1]]
            assert added == ["OrchestratorStarted"], (common, kept, added)
            told = "whole" if common == len(image.entries) else "prefix"
        for name, end in image.ends.items():
            try:
                handle = orch.handle(name)
            except UnknownTaskError:
                # An index is not checked; whoever reads all of it sees the damage.
                assert told != "whole", f"{name} is forgotten"
                continue
            except JournalError as error:
                check_refusal(error)
                told = "partly"
                continue
            try:
                error = handle.exception(PATIENCE)
            except JournalError:
                continue
            if isinstance(error, TaskFailedError | ZeroDivisionError):
                assert str(end) in str(error)
            else:
                assert error is None
                assert handle.result(0) == end
    finally:
        orch.stop(drain=False)
    return told


def test_the_images_come_up_whole(image: Image, crashed: Image, tmp_path: Path) -> None:
    """Without damage all is there: the checks below do not pass for nothing."""
    for number, one in enumerate((image, crashed)):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = one.put(folder)
        assert check_opening(path, one, least=len(one.entries)) == "whole"


def test_a_journal_that_was_cut(image: Image, tmp_path: Path) -> None:
    """At every page, and between: no part of it passes for the whole."""
    data = image.files["runs.db"]
    page = int.from_bytes(data[16:18], "big")
    random = Random(1)
    places = [*range(page, len(data), page), 1, 15, 99, 101, page - 1]
    places += [random.randrange(len(data)) for _ in range(20)]
    for number, place in enumerate(places):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = image.put(folder)
        path.write_bytes(data[:place])
        # The last page may hold nothing that was kept.
        told = check_opening(path, image, least=len(image.entries))
        assert told in ("refused", "partly") or place > len(data) - page, place
        shutil.rmtree(folder)


def test_a_journal_that_was_emptied(image: Image, tmp_path: Path) -> None:
    """An empty file beside the lock of an earlier incarnation is no fresh journal."""
    path = image.put(tmp_path)
    with TaskOrchestrator(journal=path, durability="process"):
        pass
    for damage in (lambda: path.write_bytes(b""), path.unlink):
        damage()
        before = contents(tmp_path)
        with pytest.raises(JournalError, match="gone or empty") as caught:
            TaskOrchestrator(journal=path).start()
        assert caught.value.hint
        assert contents(tmp_path) == before


def test_flipped_bits(image: Image, tmp_path: Path) -> None:
    """Many of them, one at a time: right, or refused, and never wrong."""
    data = image.files["runs.db"]
    random = Random(2)
    told: dict[str, int] = {}
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = image.put(folder)
        damaged = bytearray(data)
        place, bit = random.randrange(len(data)), random.randrange(8)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            how = check_opening(path, image, least=len(image.entries))
        except Exception as error:
            error.add_note(f"bit {bit} of byte {place}")
            raise
        told[how] = told.get(how, 0) + 1
        shutil.rmtree(folder)
    assert told.get("refused", 0) + told.get("partly", 0) > 10


def test_zeroed_and_foreign_pages(image: Image, tmp_path: Path) -> None:
    """A page of zeros, or one of another place, is noticed."""
    data = image.files["runs.db"]
    page = int.from_bytes(data[16:18], "big")
    pages = len(data) // page
    random = Random(3)
    for number in range(pages):
        other = random.randrange(pages) * page
        for how, new in enumerate((bytes(page), data[other : other + page])):
            folder = tmp_path / f"{number}-{how}"
            folder.mkdir()
            path = image.put(folder)
            place = number * page
            path.write_bytes(data[:place] + new + data[place + page :])
            check_opening(path, image, least=len(image.entries))
            shutil.rmtree(folder)


def test_a_log_that_was_cut(crashed: Image, tmp_path: Path) -> None:
    """At every frame and between: what it still has is a prefix, and it is used."""
    log = crashed.files["runs.db-wal"]
    page = int.from_bytes(log[8:12], "big")
    frame = page + 24
    random = Random(4)
    places = [*range(32, len(log) + 1, frame), 0, 1, 31]
    places = random.sample(places, min(20, len(places)))
    places += [random.randrange(len(log)) for _ in range(10)]
    seen = set()
    for number, place in enumerate(places):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = crashed.put(folder)
        (folder / "runs.db-wal").write_bytes(log[:place])
        seen.add(check_opening(path, crashed))
        shutil.rmtree(folder)
    assert "prefix" in seen
    assert "partly" not in seen


def test_flipped_bits_in_the_log(crashed: Image, tmp_path: Path) -> None:
    """What follows the damage is gone, as after a loss of power; the rest is right."""
    log = crashed.files["runs.db-wal"]
    random = Random(5)
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = crashed.put(folder)
        damaged = bytearray(log)
        damaged[random.randrange(len(log))] ^= 1 << random.randrange(8)
        (folder / "runs.db-wal").write_bytes(damaged)
        assert check_opening(path, crashed) != "partly"
        shutil.rmtree(folder)


def test_a_log_that_is_gone(crashed: Image, tmp_path: Path) -> None:
    """Without its log the journal is what it was at the last checkpoint."""
    path = crashed.put(tmp_path)
    (tmp_path / "runs.db-wal").unlink()
    assert check_opening(path, crashed) in ("prefix", "refused")


def test_a_journal_that_is_gone_and_its_log_is_not(
    crashed: Image, tmp_path: Path
) -> None:
    """No fresh journal is made beside the log of another."""
    path = crashed.put(tmp_path)
    path.unlink()
    assert check_opening(path, crashed) == "refused"
    assert not path.exists()


# -- what somebody did to it -----------------------------------------------------------


def execute(*statements: str) -> Callable[[Path], None]:
    """What executes *statements* in a journal."""

    def change(path: Path) -> None:
        db = sqlite3.connect(path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    return change


TABLES = [
    execute(f"DROP TABLE {name}")
    for name in ("facts", "groups", "meta", "keys", "snapshots")
]
CHANGES = [
    execute("DELETE FROM groups"),
    execute("DELETE FROM groups WHERE last = (SELECT max(last) FROM groups)"),
    execute("DELETE FROM facts WHERE seq = (SELECT max(seq) FROM facts)"),
    execute("DELETE FROM meta"),
    execute("PRAGMA user_version = 99"),
    execute("PRAGMA user_version = 0"),
    execute("PRAGMA application_id = 1"),
]


@pytest.mark.parametrize("change", [*TABLES, *CHANGES])
def test_a_journal_that_was_changed(
    image: Image, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Tables dropped, rows deleted, a newer layout: it is refused as it is."""
    path = image.put(tmp_path)
    change(path)
    assert check_opening(path, image) == "refused"


ROWS = [
    execute("DELETE FROM facts WHERE seq = 5"),
    execute("DELETE FROM facts WHERE kind = 'TaskCompleted'"),
    execute("UPDATE facts SET task_id = 'other' WHERE task_id = '0-1'"),
    execute("UPDATE facts SET doc = '1' WHERE task_id = '0-1' AND doc IS NOT NULL"),
    execute("UPDATE facts SET at_ns = at_ns + 1 WHERE seq = 7"),
    execute("UPDATE facts SET kind = 'TaskFailed' WHERE kind = 'TaskCompleted'"),
    execute("UPDATE groups SET epoch = 7 WHERE first = 1"),
    execute("UPDATE snapshots SET state = '{}'"),
    execute("UPDATE snapshots SET state = replace(state, '0', '1')"),
    execute("UPDATE snapshots SET seq = seq - 1"),
    execute("DELETE FROM snapshots"),
    execute("UPDATE keys SET task_id = '1-1'"),
    execute("DELETE FROM keys"),
]


@pytest.mark.parametrize("change", ROWS)
def test_rows_that_were_changed(
    image: Image, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Nothing that is told is wrong, wherever the change is."""
    path = image.put(tmp_path)
    change(path)
    check_opening(path, image)


def test_an_event_of_a_newer_version(image: Image, tmp_path: Path) -> None:
    """It says that a newer taskorch wrote it."""
    path = image.put(tmp_path)
    execute("PRAGMA user_version = 99")(path)
    with pytest.raises(JournalError, match="newer") as caught:
        TaskOrchestrator(journal=path).start()
    assert "the taskorch that wrote it" in caught.value.hint


# -- what is no journal ----------------------------------------------------------------


def foreign(path: Path) -> None:
    execute("CREATE TABLE facts (seq)", "INSERT INTO facts VALUES (1)")(path)


def text(path: Path) -> None:
    path.write_text("what I have to do\n" * 500, encoding="utf-8")


def short(path: Path) -> None:
    path.write_text("x", encoding="utf-8")


def folder_there(path: Path) -> None:
    path.mkdir()


def no_folder(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize("make", [foreign, text, short, folder_there, no_folder])
@pytest.mark.parametrize(
    "use",
    [
        lambda orch: orch.start(),
        lambda orch: orch.submit(echo),
        lambda orch: orch.submit_task(Task.call(echo, id="x")),
        lambda orch: orch.get_task_status("x"),
        lambda orch: orch.tasks(),
        lambda orch: orch.get_stats(),
    ],
)
def test_what_is_no_journal_is_refused(
    tmp_path: Path,
    make: Callable[[Path], None],
    use: Callable[[TaskOrchestrator], Any],
) -> None:
    """In plain words, wherever it is noticed first; what was there stays as it was."""
    place = tmp_path / "place"
    place.mkdir()
    path = place / "runs.db"
    make(path)
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}
    orch = TaskOrchestrator(journal=path)
    with pytest.raises(JournalError) as caught:
        use(orch)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    threads = [t.name for t in threading.enumerate() if "journal" in t.name]
    assert threads == []
    orch.stop()
    after = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}
    assert after == before


def test_a_copy_is_a_journal_of_its_own(image: Image, tmp_path: Path) -> None:
    """A backup comes up beside the original, and both go on."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with (
        TaskOrchestrator(journal=image.put(one), durability="process") as first,
        TaskOrchestrator(journal=image.put(two), durability="process") as second,
    ):
        for orch in (first, second):
            assert orch.handle("0-1").result() == image.ends["0-1"]
            assert orch.submit(echo, 1).result(PATIENCE) == 1
