"""A journal in another file or database has all that the first has, and goes on."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import pytest

from taskorch import Task, TaskOrchestrator, current_context
from taskorch.api.journal import open_journal, register_file
from taskorch.core.journal._copying import copy_journal
from taskorch.errors import InvalidTaskError, JournalError, JournalTakenError
from taskorch.ext.command_line import main
from taskorch.ext.views import JournalReader


def fail() -> None:
    raise ValueError


def fence() -> tuple[int, int]:
    return current_context().fence


def night(place: str) -> None:
    """Some of all: lives, ends, keys, what waits, what was forgotten, a snapshot."""
    for incarnation in range(3):
        with TaskOrchestrator(journal=place) as orch:
            for number in range(20):
                task = Task.call(
                    pow, number, incarnation, id=f"pow/{incarnation}/{number}"
                )
                orch.submit_task(task)
            print_ = Task.call(print, incarnation, idempotency_key=f"key {incarnation}")
            orch.submit_task(print_)
            orch.submit_task(Task.call(fail, id=f"fail/{incarnation}"))
            orch.wait()
    with TaskOrchestrator(journal=place) as orch:
        orch.submit_task(Task.call(fence, id="later", not_before=3600))
        orch.stop(drain=False)
    journal = open_journal(place)
    epoch = journal.claim()
    assert journal.forget(epoch, [f"pow/1/{n}" for n in range(0, 20, 3)])
    journal.close()


def all_of(place: str) -> object:
    """What a journal says, but whose it is."""
    reader = JournalReader(place)
    statuses = [{**status.to_dict(), "log_path": None} for status in reader.tasks()]
    journal = open_journal(place)
    journal.verify()
    keys = [journal.id_of_key(f"key {incarnation}") for incarnation in range(3)]
    return [*reader.happened()], statuses, keys, journal.snapshot()


@pytest.fixture(params=["file to file", "file to database", "database to file", "both"])
def places(request, tmp_path):
    file, other = str(tmp_path / "runs.db"), str(tmp_path / "copy.db")
    if request.param == "file to file":
        return file, other
    postgres = request.getfixturevalue("postgres")
    return {
        "file to database": (file, postgres.address()),
        "database to file": (postgres.address(), file),
        "both": (postgres.address(), postgres.address()),
    }[request.param]


@pytest.mark.slow("a night in each kind of journal")
def test_it_has_all_that_the_other_has_and_goes_on(places):
    source, target = places
    night(source)
    before = all_of(source)
    copied = copy_journal(source, target)
    assert all_of(target) == before == all_of(source)
    assert copied.events == len(before[0])
    with TaskOrchestrator(journal=target) as orch:
        assert orch.handle("pow/2/3").result() == 9
        again = Task.call(print, 1, idempotency_key="key 1")
        assert orch.submit_task(again).task_id == before[2][1]
        orch.rerun_task("fail/2")
        # The fence of a task never falls.
        epoch = JournalReader(source).owner.epoch
        assert orch.submit_task(Task.call(fence, id="fence")).result()[0] > epoch
        orch.stop(drain=False)
    open_journal(target).verify()


def test_the_other_must_be_free_and_the_new_one_not_there(tmp_path, postgres):
    source = str(tmp_path / "runs.db")
    night(source)
    for target in (str(tmp_path / "there.db"), postgres.address()):
        with TaskOrchestrator(journal=target):
            pass
        with pytest.raises(InvalidTaskError, match="exists already"):
            copy_journal(source, target)
    with TaskOrchestrator(journal=source) as orch:
        with pytest.raises(JournalTakenError):
            copy_journal(source, str(tmp_path / "new.db"))
        orch.stop(drain=False)
    with pytest.raises(JournalError):
        copy_journal(str(tmp_path / "none.db"), str(tmp_path / "new.db"))
    assert not list(tmp_path.glob("new.db*"))


class Table:
    def __init__(self, text: str) -> None:
        self.text = text


def save(table: Table, path: str) -> None:
    Path(path).write_text(table.text)


def load(path: str) -> Table:
    return Table(Path(path).read_text())


def make_table() -> Table:
    return Table("rows")


register_file(Table, save, load)


def test_values_in_files_go_to_a_file_and_are_refused_by_a_database(tmp_path, postgres):
    source = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=source) as orch:
        orch.submit_task(Task.call(make_table, id="table")).result()
    with pytest.raises(InvalidTaskError, match="task table in a file"):
        copy_journal(source, postgres.address())
    copy_journal(source, str(tmp_path / "other.db"))
    shutil.rmtree(f"{source}.values")
    with TaskOrchestrator(journal=tmp_path / "other.db") as orch:
        assert orch.handle("table").result().text == "rows"


def test_logs_come_along_where_there_is_a_folder(tmp_path, postgres, capsys):
    source = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=source) as orch:
        orch.submit_task(Task.call(print, "hello", id="x")).result()
    target = f"{postgres.address()}&logs={tmp_path / 'logs'}"
    assert main(["copy", source, target]) == 0
    told = capsys.readouterr().out
    assert f"Go on with it alone: {source} would do the same work again." in told
    assert JournalReader(target).log("x").text == "hello\n"
    assert main(["copy", source, postgres.address()]) == 0
    assert f"The logs of tasks stay in {source}.logs" in capsys.readouterr().out
    assert main(["copy", target, str(tmp_path / "back.db")]) == 0
    assert JournalReader(tmp_path / "back.db").log("x").text == "hello\n"


@pytest.mark.parametrize("to_database", [False, True])
def test_a_copy_that_was_killed_is_not_there_and_is_made_anew(
    tmp_path, request, to_database
):
    source, target = tmp_path / "runs.db", str(tmp_path / "new.db")
    with TaskOrchestrator(journal=source) as orch:
        for number in range(50):
            orch.submit_task(Task.call(abs, number, id=f"t{number}"))
    if to_database:
        target = request.getfixturevalue("postgres").address()
    before = all_of(str(source))
    draft = open_journal(target).draft()
    epoch = draft.claim()
    draft.append(epoch, [*islice(open_journal(source).rows(), 5)])
    draft.close()
    assert not open_journal(target).exists()
    copy_journal(str(source), target)
    assert all_of(target) == before
    if not to_database:
        assert sorted(p.name for p in tmp_path.glob("new.db*") if p.is_file()) in (
            ["new.db"],
            ["new.db", "new.db.lock"],
        )
