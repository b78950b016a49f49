"""Programs that others watch: where they print to, and under which number they run."""

from __future__ import annotations

import os
import queue

import pytest

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.core.executors._programs._executor import ProgramEnd, ProgramExecutor
from taskorch.errors import InvalidTaskError
from taskorch.model import Program

PATIENCE = 60.0


@pytest.fixture
def run(tmp_path):
    executor = ProgramExecutor(run_id=f"watched-{os.getpid()}", logs=tmp_path / "logs")

    def run(*args, **options) -> ProgramEnd:
        ends: queue.SimpleQueue[ProgramEnd] = queue.SimpleQueue()
        executor.start(Program(args, **options), name="t/1", env={}, on_end=ends.put)
        return ends.get(timeout=PATIENCE)

    yield run
    executor.close(0)


def test_what_it_prints_goes_into_the_file_that_is_named(run, tmp_path):
    log = tmp_path / "deep" / "one.log"
    for text in ("a long first attempt", "a second"):
        end = run("sh", "-c", f"echo {text}; echo and error >&2", log=log)
        assert end.result is not None
        assert end.result.log_path == log
        assert sorted(log.read_text().splitlines()) == sorted([text, "and error"])

    assert not (tmp_path / "logs").exists()
    assert log.stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_link_is_not_followed_and_a_pipe_does_not_hold_it_up(run, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    (tmp_path / "link.log").symlink_to(kept)
    os.mkfifo(tmp_path / "pipe.log")

    for name in ("link.log", "pipe.log"):
        end = run("echo", "x", log=tmp_path / name)
        assert end.result is not None
        assert (end.result.exit_code, end.result.stdout_tail) == (0, "x\n")
        assert "the log could not be made" in str(end.result.log_error)
    assert kept.read_text() == "kept"


def test_a_number_that_cannot_be_written_stops_no_program(run, tmp_path, caplog):
    (tmp_path / "file").write_text("")

    end = run("true", pid_file=tmp_path / "file" / "one.pid")

    assert end.result is not None
    assert end.result.exit_code == 0
    assert "one.pid could not be written" in caplog.text


def test_paths_are_no_empty_texts():
    for name in ("log", "pid_file"):
        with pytest.raises(InvalidTaskError, match=f"{name}: an empty path"):
            Program(["true"], **{name: ""})
        with pytest.raises(TypeError, match=f"{name} is text"):
            Program(["true"], **{name: 3})


def test_descriptors_are_numbers_and_of_this_incarnation(tmp_path):
    for wrong in (["x"], [-1], [True, None]):
        with pytest.raises(InvalidTaskError, match="no number of a file descriptor"):
            Program(["true"], pass_fds=wrong)
    with pytest.raises(TypeError, match="pass_fds: numbers of open file"):
        Program(["true"], pass_fds=3)
    program = Program(["true"], pass_fds=[3])
    with (
        TaskOrchestrator(journal=tmp_path / "runs.db") as orch,
        pytest.raises(InvalidTaskError, match="mean nothing in another incarnation"),
    ):
        orch.submit_task(Task("program", program))
    wf = Workflow("files")
    wf.add(Task("program", program, id="one"))
    with pytest.raises(InvalidTaskError, match="which a document cannot say"):
        wf.to_dict()
