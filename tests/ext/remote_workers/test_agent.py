"""`taskorch agent`, against a service, through every kind of trouble on the way."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import ClassVar

import pytest
from tests.api.tools import eventually
from tests.ext.command_line.tools import taskorch
from tests.ext.remote_workers.tools import Proxy, at_work, free_port, worker_process
from tests.ext.service.tools import served
from tests.house.pids import is_alive

from taskorch import (
    InvalidTaskError,
    Program,
    ProgramFailedError,
    Resources,
    Task,
    TaskFailedError,
    TaskOrchestrator,
)
from taskorch.ext.command_line import main
from taskorch.ext.recovery import RecoveryHandler
from taskorch.ext.remote_workers import Abilities, Agent, progress, spent, units
from taskorch.ext.remote_workers._line import Line, Refusal, ServiceAddress, Unreachable
from taskorch.ext.remote_workers._runs import WorkerRun
from taskorch.kit.machine import VISIBLE
from taskorch.model import NamedUnits

#: Several waits may follow each other, on a machine that is slow.
pytestmark = pytest.mark.timeout(300)


def sh(script, **options):
    return Task("program", Program(["sh", "-c", script]), requires=["sh"], **options)


def double(n):
    return 2 * n


def running(service, name="far", *, url=None, **options):
    """A worker of *service*, on threads of this process."""
    options.setdefault("abilities", Abilities(("sh",), {"double": double}))
    options.setdefault("token", service.token)
    return at_work(Agent(name, url or service.server.url, **options))


@pytest.fixture
def service(tmp_path):
    orch = TaskOrchestrator(unknown_capability="wait")
    with served(orch, agents=True, artifacts=tmp_path / "artifacts") as found:
        yield found
        orch.stop(drain=False, timeout=0)


class Counting(BaseHTTPRequestHandler):
    """A service that has one long order, and notes when it hears a sign of life."""

    heard: ClassVar[list[float]] = []
    lease = 0.6

    def do_POST(self):
        verb = self.path.rpartition("/")[2]
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"orders": [], "stop": []}
        if verb == "hello":
            answer = {"lease": self.lease, "artifacts": False}
        elif verb == "claim" and not said["running"]:
            order = {"attempt": "1.1.a:t", "task_id": "t", "number": 1, "fence": "1.1"}
            answer["orders"] = [{**order, "type": "nap", "payload": 0}]
        elif verb == "claim":
            # It is answered late, so that only the other line tells that it lives.
            time.sleep(2 * self.lease)
        elif verb == "heartbeat" and said["running"]:
            self.heard.append(time.monotonic())
        elif verb == "complete":
            ended = [each["attempt"] for each in said["results"]]
            answer["results"] = [{"attempt": each, "fate": "counted"} for each in ended]
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing: it is no test of that."""


def test_it_renews_its_lease_while_it_works_and_its_request_waits():
    """More than once in a lease, so that one message may be lost."""
    is_over = threading.Event()
    Counting.heard.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    abilities = Abilities((), {"nap": lambda _: is_over.wait(60)})
    with at_work(Agent("far", url, abilities=abilities)):
        eventually(lambda: len(Counting.heard) >= 6)
        is_over.set()
    server.shutdown()
    server.server_close()
    times = Counting.heard
    gaps = [later - before for before, later in itertools.pairwise(times)]
    # The machine may be busy: the shortest is what the worker would do.
    assert min(gaps) < Counting.lease / 2


# -- work ------------------------------------------------------------------------------


def test_it_runs_programs_and_functions(service):
    said = Abilities.of(
        ["sh"], ["dumps=json:dumps"], ["say=echo {what} '{n}' {not a name}"]
    )
    with running(service, abilities=said, at_once=3):
        submit = service.orch.submit_task
        program = submit(sh("echo $0; cat", id="a"))
        dumps = submit(Task("dumps", {"a": [1, None]}))
        says = submit(Task("say", {"what": "a b; c", "n": 5}))

        assert program.result(60).stdout_tail == "sh\n"
        assert dumps.result(60) == '{"a": [1, null]}'
        assert says.result(60).stdout_tail == "a b; c 5 {not a name}\n"


def test_what_programs_and_functions_come_to_is_told(service):
    with running(service):
        submit = service.orch.submit_task
        with pytest.raises(ProgramFailedError, match="exited with code 3: oh") as bad:
            submit(sh("echo oh >&2; exit 3")).result(60)
        assert bad.value.result.exit_code == 3
        program = Program(["sh", "-c", "exit 3"], check=False)
        assert (
            submit(Task("program", program, requires=["sh"])).result(60).exit_code == 3
        )
        with pytest.raises(TaskFailedError, match="could not be started"):
            submit(
                Task("program", Program(["no-such-program"]), requires=["sh"])
            ).result(60)
        with pytest.raises(TaskFailedError, match="unsupported operand") as bad:
            submit(Task("double", {})).result(60)
        assert bad.value.type == "TypeError"
        assert submit(Task("double", 4)).result(60) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="Linux holds limits")
def test_programs_are_held_where_they_run(service, tmp_path):
    """What the task says, and what the program says, goes there; its end comes back."""
    with running(service):

        def run(script, task=None, **options):
            program = Program(["sh", "-c", script], **options)
            made = Task("program", program, requires=["sh"], **(task or {}))
            return service.orch.submit_task(made)

        limits = {"cpu_seconds": 30.0}
        held = run("true", {"resources": {"memory_mb": 200}}, limits=limits)
        result = held.result(60)
        assert dict(result.limits) == {"cpu_seconds": 30, "memory_mb": 200}
        assert result.enforced
        own = {"cwd": tmp_path, "enforce": "if possible"}
        script = "echo > own/x; echo > other; exit 0"
        writes = run(script, {"writes": ["own/**"]}, **own).result(60)
        assert (tmp_path / "own/x").exists()
        is_held = "writes" not in writes.unenforced
        assert (tmp_path / "other").exists() is not is_held
        burns = run("while :; do :; done", limits={"cpu_seconds": 0.2})
        error = burns.exception(60)
        assert isinstance(error, ProgramFailedError)
        assert error.result.exceeded == "cpu_seconds"


def test_a_result_that_does_not_fit_is_the_tasks_failure(service):
    abilities = Abilities((), {"many": lambda n: "x" * n, "odd": lambda n: {n}})
    with running(service, abilities=abilities):
        with pytest.raises(TaskFailedError, match="at most 700,000 bytes"):
            service.orch.submit_task(Task("many", 800_000)).result(60)
        with pytest.raises(TaskFailedError, match="not JSON serializable"):
            service.orch.submit_task(Task("odd", 1)).result(60)
        # Ends that do not fit into one message go in two.
        handles = service.orch.submit_tasks([Task("many", 500_000)] * 3)
        assert [len(handle.result(60)) for handle in handles] == [500_000] * 3


def test_what_it_cannot_do_fails_its_task(service):
    abilities = Abilities(("x",), {}, {"say": ("echo", "{what}")})
    with running(service, abilities=abilities):
        for task in (Task("x", 1), Task("say", {}), Task("say", [])):
            with pytest.raises(TaskFailedError, match="InvalidTaskError"):
                service.orch.submit_task(task).result(60)


def test_what_a_strategy_has_mended_runs_again_on_its_worker(tmp_path):
    """The attempt is the same, and its order another: a worker does nothing twice."""
    orch = TaskOrchestrator(
        unknown_capability="wait",
        retry_handler=RecoveryHandler(max_retries=0, escalate=False),
    )
    mended = []

    @orch.recover("import_error")
    def mend(task, failure, context):
        mended.append(task.id)
        return "retry"

    def load(n):
        if len(mended) < n:
            raise ImportError("no module x")
        return len(mended)

    with served(orch, agents=True) as service:
        with running(service, abilities=Abilities((), {"load": load})):
            handle = service.orch.submit_task(Task("load", 1, id="t"))
            assert handle.result(60) == 1
            assert service.orch.get_task_status("t").attempts == 1
            # Each strategy has one try in each attempt.
            again = service.orch.submit_task(Task("load", 3))
            with pytest.raises(TaskFailedError, match="no module x"):
                again.result(60)
        orch.stop(drain=False, timeout=0)


def test_files_and_the_output_are_sent_before_the_end_is_told(service, tmp_path):
    script = (
        "mkdir $TASKORCH_ARTIFACTS/d; head -c 1300000 /dev/zero > "
        "$TASKORCH_ARTIFACTS/d/big; : > $TASKORCH_ARTIFACTS/empty; "
        ": > $TASKORCH_ARTIFACTS/.hidden; echo out"
    )
    with running(service):
        service.orch.submit_task(sh(script, id="a/b")).result(60)
    folder = tmp_path / "artifacts" / "a" / "b" / "-1.1"
    found = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == {"d/big": 1_300_000, "empty": 0, "output.log": 4}


def test_a_program_says_how_far_it_is(service):
    script = "echo '{\"done\": 3}' > $TASKORCH_PROGRESS; sleep 600"
    with running(service, lease=1.0):
        handle = service.orch.submit_task(sh(script, id="t"))
        eventually(
            lambda: (
                service.orch.get_task_status("t").progress == {"done": 3}
                or service.orch.get_task_status("t").attempts > 1
            )
        )
        handle.cancel()


def test_a_function_says_how_far_it_is(service):
    go = threading.Event()

    def work(n):
        for done in range(n):
            progress({"done": done})
        assert go.wait(60)
        return n

    def odd(_):
        for value, error in (
            ({1}, TypeError),
            (float("nan"), ValueError),
            ("x" * 17_000, ValueError),
        ):
            with pytest.raises(error):
                progress(value)

    with running(
        service, lease=6.0, abilities=Abilities((), {"work": work, "odd": odd})
    ):
        service.orch.submit_task(Task("work", 3, id="t"))
        eventually(
            lambda: service.orch.get_task_status("t").progress == {"done": 2},
        )
        go.set()
        assert service.orch.submit_task(Task("odd")).result(60) is None
        assert service.orch.get_task_status("t").attempts == 1


def test_what_nobody_has_asked_for_is_told_to_nobody():
    progress({"done": 1})


#: What programs say that they have spent, and what counts of each.
SAY = {
    "echo '{\"tokens\": 3}' >$TASKORCH_SPENT; echo '{\"tokens\": 4}' >$TASKORCH_SPENT": 7,
    "echo '{\"tokens\": 50}' >$TASKORCH_SPENT; exit 3": 50,
    "echo '{\"tokens\": 0}' >$TASKORCH_SPENT": 0,
    "echo '{\"tokens\": 3}' >$TASKORCH_SPENT; kill -9 $$": 20,
    "echo '{\"tokens\": 3}' >$TASKORCH_SPENT; echo what >$TASKORCH_SPENT": 20,
    "true": 20,
}


def test_a_program_elsewhere_says_what_it_has_spent(service):
    with running(service):
        for number, (script, counted) in enumerate(SAY.items()):
            with service.orch.budget(f"b{number}", tokens=1_000) as budget:
                handle = service.orch.submit_task(sh(script, resources={"tokens": 20}))
                handle.exception(60)
                assert budget.usage.spent == {"tokens": counted}, script
        # Of one that draws on no budget, nothing is asked.
        none = sh('test -z "${TASKORCH_SPENT:-}"')
        assert service.orch.submit_task(none).result(60).exit_code == 0


def test_a_function_elsewhere_says_what_it_has_spent(service):
    def work(many):
        spent(tokens=many)
        spent(tokens=1)
        with pytest.raises(InvalidTaskError):
            spent(tokens=-1)
        if many > 50:
            raise ValueError

    with (
        running(service, abilities=Abilities((), {"work": work})),
        service.orch.budget("release", tokens=1_000) as budget,
    ):
        needs = {"tokens": 20}
        service.orch.submit_task(Task("work", 3, resources=needs)).result(60)
        assert budget.usage.spent == {"tokens": 4}
        service.orch.submit_task(Task("work", 60, resources=needs)).exception(60)
        assert budget.usage.spent == {"tokens": 65}
    spent(tokens=1)


def test_functions_and_programs_elsewhere_know_their_units(service):
    """Two at once have different ones; and none but those that the worker names."""
    both = threading.Barrier(2)

    def which(_):
        both.wait(60)
        return units("gpu")

    run = {"run": ("sh", "-c", "{cmd}")}
    abilities = Abilities(("sh",), {"which": which}, run)
    capacity = {"gpu": {"named": ["a", "b"]}}
    with running(service, abilities=abilities, capacity=capacity, at_once=2):
        tasks = [Task("which", 0, resources={"gpu": 1}) for _ in range(2)]
        handles = service.orch.submit_tasks(tasks)
        assert sorted(handle.result(60) for handle in handles) == [["a"], ["b"]]
        say = "printf %s $CUDA_VISIBLE_DEVICES"
        run = Task("run", {"cmd": say}, resources={"gpu": 2})
        own = sh(say, resources={"gpu": 1})
        program = Program(["sh", "-c", say], env={VISIBLE: "mine"})
        mine = Task("program", program, requires=["sh"], resources={"gpu": 1})
        texts = [
            service.orch.submit_task(task).result(60).stdout_tail
            for task in (run, own, mine)
        ]
        assert texts == ["a,b", "a", "mine"]
    assert units("gpu") == ()


def test_a_worker_that_is_lost_has_spent_all_that_it_reserved(service, tmp_path):
    began = tmp_path / "began"
    script = f"echo '{{\"tokens\": 3}}' >$TASKORCH_SPENT; touch {began}; sleep 600"
    with service.orch.budget("release", tokens=1_000) as budget:
        with running(service):
            task = sh(script, resources={"tokens": 20}, id="t")
            service.orch.submit_task(task)
            eventually(began.exists)
        assert service.orch.agents.is_lost("far")
        eventually(lambda: budget.usage.spent == {"tokens": 20})
        service.orch.cancel_task("t")


def test_the_last_whole_line_is_the_progress(tmp_path):
    run = WorkerRun({"attempt": "1.1:t"}, tmp_path)
    file = tmp_path / "progress"
    told = [run.news()]
    for text in ("1\n2", "1\n2\n", "1\n2\n", "1\n2\n\n", "x\xff y\n", "NaN\n"):
        file.write_text(text, "latin-1")
        told.append(run.news())
    assert told == [None, 1, 2, None, None, "x\ufffd y", "NaN"]


# -- stopping --------------------------------------------------------------------------


def test_a_program_that_is_cancelled_is_ended(service, tmp_path):
    pid_file = tmp_path / "pid"
    with running(service):
        handle = service.orch.submit_task(sh(f"echo $$ > {pid_file}; sleep 600"))
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
        handle.cancel()
        eventually(lambda: not is_alive(int(pid_file.read_text())))
        eventually(handle.done)
        assert service.orch.submit_task(Task("double", 1)).result(60) == 2


def test_what_runs_when_it_ends_is_given_back(service, tmp_path):
    go = tmp_path / "go"
    script = f"test -e {go} || sleep 600"
    with running(service):
        handle = service.orch.submit_task(sh(script, id="t"))
        eventually(lambda: service.orch.get_task_status("t").state.value == "running")
    go.touch()
    assert service.orch.agents.is_lost("far")
    with running(service, "other"):
        assert handle.result(60).exit_code == 0
    status = service.orch.get_task_status("t")
    assert (status.agent_id, status.attempts) == ("other", 2)


def test_what_runs_may_end_by_itself(service, tmp_path):
    began, go = tmp_path / "began", tmp_path / "go"
    script = f": > {began}; until test -e {go}; do sleep 0.05; done"
    with running(service, drain=600.0) as worker:
        handle = service.orch.submit_task(sh(script, id="t"))
        eventually(began.exists)
        worker.stop()
        go.touch()
        assert handle.result(60).exit_code == 0
        eventually(lambda: service.orch.agents.is_lost("far"))
    assert service.orch.get_task_status("t").attempts == 1


# -- trouble on the way ----------------------------------------------------------------


def test_it_waits_for_a_service_that_is_not_there_yet():
    port = free_port()
    worker = Agent(
        "far",
        f"http://127.0.0.1:{port}",
        abilities=Abilities((), {"double": double}),
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        eventually(lambda: "waits for" in worker._said_last)
        orch = TaskOrchestrator(unknown_capability="wait")
        with served(orch, agents=True, token=None, port=port):
            assert orch.submit_task(Task("double", 4)).result(60) == 8
    finally:
        worker.stop()
        thread.join(60)


def test_it_goes_on_with_the_next_incarnation_of_the_orchestrator(tmp_path):
    """And ends what it ran for the one before."""
    port, pid_file, go = free_port(), tmp_path / "pid", tmp_path / "go"

    def incarnation():
        orch = TaskOrchestrator(
            journal=tmp_path / "runs.db", unknown_capability="wait", grace=0.05
        )
        return served(orch, agents=True, token=None, port=port)

    script = f"echo $$ > {pid_file}; test -e {go} || exec sleep 600"
    with incarnation() as service, running(service) as worker:
        service.orch.submit_task(sh(script, id="t"))
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
        first = int(pid_file.read_text())
        # It dies: nobody is told to stop anything.
        service.server.stop()
        service.orch.stop(drain=False, timeout=0)
        go.touch()
        with incarnation() as again:
            assert again.orch.handle("t").result(60).exit_code == 0
            assert again.orch.get_task_status("t").attempts == 2
            eventually(lambda: not is_alive(first))
            assert worker._is_known


def test_it_ends_its_programs_when_its_lease_is_over(service, tmp_path):
    pid_file = tmp_path / "pid"
    with (
        Proxy(service.server.port) as proxy,
        running(service, url=proxy.url, lease=3.0) as worker,
    ):
        handle = service.orch.submit_task(sh(f"echo $$ > {pid_file}; exec sleep 600"))
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
        pid = int(pid_file.read_text())
        proxy.cut()
        eventually(lambda: service.orch.agents.is_lost("far"))
        # By then others are given its work: nobody can tell it to end any more.
        eventually(lambda: not is_alive(pid))
        eventually(lambda: not worker._runs)
        proxy.mend()
        # It is taken again, and the same task is begun anew.
        eventually(lambda: int(pid_file.read_text() or pid) != pid)
        handle.cancel()


def test_a_late_result_is_kept_and_said(service, tmp_path, caplog):
    caplog.set_level(logging.INFO, "taskorch.agent")
    go = threading.Event()
    numbers = iter(range(9))

    def wait(_):
        number = next(numbers)
        if not number:
            go.wait(60)
        return number

    abilities = Abilities((), {"wait": wait})
    with running(service, abilities=abilities, at_once=2):
        handle = service.orch.submit_task(Task("wait", id="t"))
        eventually(lambda: service.orch.get_task_status("t").state.value == "running")
        eventually(lambda: "begins t" in caplog.text)
        service.orch.agents.leave("far")
        assert handle.result(60) == 1
        go.set()
        eventually(lambda: "ended t: completed, late" in caplog.text)
    assert service.orch.get_task_status("t").late_results == {1: 0}


def test_two_workers_of_one_name(service, caplog):
    caplog.set_level(logging.INFO, "taskorch.agent")
    with running(service):
        service.orch.submit_task(Task("double", 1)).result(60)
        with running(service):
            eventually(lambda: "there is a worker 'far' already" in caplog.text)
            assert service.orch.submit_task(Task("double", 2)).result(60) == 4


def test_a_service_that_will_never_take_it(service):
    for options, why in (
        ({"token": "x" * 20}, "the token is not that of this service"),
        ({"abilities": Abilities((" x",))}, "a capability is a name"),
        ({"lease": 1e6}, "lease: seconds are needed"),
    ):
        given = {"token": service.token, **options}
        worker = Agent("far", service.server.url, **given)
        with pytest.raises(InvalidTaskError, match=why):
            worker.run()


class Refusing(BaseHTTPRequestHandler):
    """A service that refuses a worker for some reasons, one after another."""

    reasons: ClassVar = []

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        status = self.reasons.pop(0)
        body = json.dumps({"detail": f"refused by {status}", "code": "x"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_a_service_may_take_another_time_is_said_again(status, monkeypatch):
    monkeypatch.setattr(Refusing, "reasons", [status, status, 403])
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        worker = Agent("far", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(InvalidTaskError, match="refused by 403"):
            worker.run()
        server.shutdown()
        thread.join()
    assert not Refusing.reasons


def test_a_service_that_takes_no_workers(caplog):
    caplog.set_level(logging.INFO, "taskorch.agent")
    with served(TaskOrchestrator(), token=None) as service, running(service):
        eventually(lambda: "it takes no workers" in caplog.text)


def order(number=1, **more):
    said = {"attempt": f"1.{number}:t", "task_id": "t", "number": number}
    return {**said, "fence": f"1.{number}", "type": "x", "payload": None, **more}


@pytest.fixture
def full(monkeypatch):
    """The system has neither a thread nor a process for us, within the block."""

    def no_process(*_args, **_options):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def no_thread(_thread):
        raise RuntimeError("can't start new thread")

    @contextmanager
    def patched():
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", no_process)
            patch.setattr(threading.Thread, "start", no_thread)
            yield

    return patched


@pytest.fixture
def alone():
    """One that has not said hello to anybody, with what it has done."""
    done = []
    abilities = Abilities((), {"x": done.append})
    worker = Agent("far", "http://127.0.0.1:9", abilities=abilities, at_once=2)
    worker.done = done
    yield worker
    worker._runner.close()


def do(worker, program, number=1):
    """Give it an order, and say whether it still has to be begun."""
    more = {"program": ["true"]} if program else {}
    worker._hear({"orders": [order(number, **more)]}, 0.0)
    return partial(is_waiting, worker, number)


def is_waiting(worker, number):
    return worker._runner.is_waiting(worker._runs[f"1.{number}:t"])


@pytest.mark.parametrize("program", [False, True])
def test_what_there_is_no_room_for_is_begun_when_there_is_some(alone, full, program):
    with full():
        eventually(do(alone, program))
        alone._runner.begin_waiting()
        assert is_waiting(alone, 1)
        assert not alone._ends
    alone._runner.begin_waiting()
    eventually(lambda: alone._ends)
    assert alone._ends[0][1]["outcome"] == "completed"
    # Now it has threads, but no processes.
    with full():
        waits = do(alone, program, 2)
        eventually(waits if program else lambda: len(alone._ends) == 2)
    alone._runner.begin_waiting()
    eventually(lambda: len(alone._ends) == 2)
    assert alone._ends[1][1]["outcome"] == "completed"
    assert alone.done == ([] if program else [None, None])


@pytest.mark.parametrize("program", [False, True])
def test_what_waits_for_room_can_be_stopped(alone, full, program):
    with full():
        eventually(do(alone, program))
        alone._stop("1.1:t")
    assert [end["outcome"] for _, end in alone._ends] == ["stopped"]
    alone._runner.begin_waiting()
    assert (alone.done, len(alone._ends)) == ([], 1)


@pytest.mark.parametrize("program", [False, True])
def test_what_waits_for_room_is_not_begun_without_a_lease(alone, full, program):
    alone._lease.since = -alone._lease.length
    with full():
        eventually(do(alone, program))
        alone._keep_leases()
    assert (alone._runs, alone._ends) == ({}, [])
    alone._runner.begin_waiting()
    assert alone.done == []


def test_an_order_that_comes_at_the_end_is_given_back():
    worker = Agent("far", "http://127.0.0.1:9")
    worker.stop()
    worker._hear({"orders": [order()]}, 0.0)
    assert (worker._unbegun, worker._runs) == (["1.1:t"], {})
    worker._runner.close()


def test_it_remembers_so_many_orders(monkeypatch):
    monkeypatch.setattr("taskorch.ext.remote_workers._worker._SEEN", 2)
    worker = Agent("far", "http://127.0.0.1:9")
    worker._hear({"orders": [order(number) for number in range(1, 5)]}, 0.0)
    assert list(worker._seen) == ["1.3:t", "1.4:t"]
    worker._runner.close()


def test_ends_are_told_until_they_are_heard(service, monkeypatch, caplog):
    """Whatever the service answers."""
    caplog.set_level(logging.INFO, "taskorch.agent")
    refusals = [
        Refusal(429, {"detail": "slowly", "code": "too_many_requests"}),
        Refusal(404, {"detail": "who?", "code": "unknown_agent"}),
        Refusal(401, {"detail": "a token?", "code": "no_token"}),
        Unreachable("gone"),
    ]
    say = Line.say

    def refused(line, verb, said, seconds):
        if verb == "complete" and refusals:
            raise refusals.pop(0)
        return say(line, verb, said, seconds)

    monkeypatch.setattr(Line, "say", refused)
    with running(service):
        assert service.orch.submit_task(Task("double", 4)).result(60) == 8
    assert not refusals
    assert "cannot tell how attempts have ended: a token?" in caplog.text
    assert "has ends to tell: gone" in caplog.text


@pytest.mark.parametrize("asks", [True, False])
def test_a_worker_measures_its_signs_of_life_and_says_it_to_who_asks(
    service, monkeypatch, asks
):
    """A service that does not ask may be an older one, and refuse what it says."""
    said, took = [], []
    say = Line.say

    def heard(line, verb, told, seconds):
        began = time.monotonic()
        if verb == "heartbeat":
            said.append(told)
            time.sleep(0.05)
        answer = say(line, verb, told, seconds)
        if verb == "heartbeat":
            took.append(time.monotonic() - began)
        return answer if asks else {n: answer[n] for n in answer if n != "round_trip"}

    monkeypatch.setattr(Line, "say", heard)
    with running(service, lease=0.6) as worker:
        eventually(lambda: len(said) >= 3)
        measured = service.orch.get_stats().agents[worker.name].round_trip
    assert "round_trip" not in said[0]
    if not asks:
        assert measured is None
        assert not any("round_trip" in each for each in said)
        return
    assert said[1]["round_trip"] == pytest.approx(took[0], rel=0.5, abs=1.0)
    assert said[1]["round_trip"] >= 0.05
    assert measured >= 0.05


def deep(levels):
    return "[" * levels + "]" * levels


#: What a function may return, and why its task fails.
REFUSED = {
    "deep": (lambda: json.loads(deep(58)), "nested more than 60 levels deep"),
    "deeper": (lambda: [json.loads(deep(900))], "levels deep"),
    "deepest": (lambda: nested(100_000), "too deeply"),
    "twins": (lambda: {1: "a", "1": "b"}, "'1' stands twice"),
    "digits": (lambda: 10**5_000, "digits"),
    "halves": (lambda: "\ud800", None),
}


def attempts(service, handle):
    return service.orch.get_task_status(handle.task_id).attempts


def nested(levels):
    made = []
    for _ in range(levels):
        made = [made]
    return made


def test_a_result_that_is_never_taken_fails_its_task_and_no_other(service):
    results = {name: lambda _, made=made: made() for name, (made, _) in REFUSED.items()}
    abilities = Abilities((), {**results, "double": double})
    with running(service, abilities=abilities, at_once=8) as worker:
        others = service.orch.submit_tasks([Task("double", n) for n in range(5)])
        handles = {name: service.orch.submit_task(Task(name)) for name in REFUSED}
        for name, (_, why) in REFUSED.items():
            if why is None:
                assert handles[name].result(60) == "\ud800"
            else:
                with pytest.raises(TaskFailedError, match=why):
                    handles[name].result(60)
        assert [handle.result(60) for handle in others] == [0, 2, 4, 6, 8]
        assert all(attempts(service, each) == 1 for each in others)
        eventually(lambda: not worker._runs)


def test_what_a_function_returned_is_not_changed_any_more(service):
    """By what it has left behind."""
    kept = []
    go = threading.Event()

    def give(_):
        kept.append(kept)
        go.set()
        return [1]

    def say(_):
        told = [1]
        progress(told)
        told.append(told)

    abilities = Abilities((), {"give": give, "say": say})
    with running(service, abilities=abilities, lease=0.5):
        assert service.orch.submit_task(Task("say", id="s")).result(60) is None
        assert service.orch.submit_task(Task("give")).result(60) == [1]


def test_odd_progress_ends_no_lease(service, tmp_path):
    """And what is said after it is heard."""
    lines = [deep(16_000), deep(58), '{"a": 1, "a": 2}', "[" * 16_000, "9" * 5_000]
    go, tasks = tmp_path / "go", []
    wait = f"until test -e {go}; do sleep 0.05; done"
    tell = "echo '\"last\"' >> $TASKORCH_PROGRESS; sleep 600"
    for number, line in enumerate(lines):
        odd = tmp_path / f"odd-{number}"
        odd.write_text(f"{line}\n")
        script = f"cat {odd} > $TASKORCH_PROGRESS; {wait}; {tell}"
        tasks.append(sh(script, id=odd.name))
    other = sh("echo 1 > $TASKORCH_PROGRESS; sleep 600", id="other")
    with running(service, lease=2.0, at_once=6):
        handles = service.orch.submit_tasks([*tasks, other])
        eventually(lambda: service.orch.get_task_status("other").progress == 1)
        go.touch()
        for task in tasks:
            eventually(
                lambda name=task.id: (
                    service.orch.get_task_status(name).progress == "last"
                )
            )
        for handle in handles:
            handle.cancel()
        assert [attempts(service, each) for each in handles] == [1] * 6


def test_what_a_program_leaves_among_its_files_ends_nothing(service, tmp_path, caplog):
    script = """
import os
os.chdir(os.environ["TASKORCH_ARTIFACTS"])
for name in (b"a\\nb", b"\\xff", b"\\x1b[2J"):
    open(name, "w").close()
open("good", "w").write("x")
os.mkfifo("pipe")
os.symlink("/etc/passwd", "link")
for _ in range(2_100):
    os.mkdir("d")
    os.chdir("d")
"""
    program = Program([sys.executable, "-c", script])
    with running(service) as worker:
        handle = service.orch.submit_task(
            Task("program", program, requires=["sh"], id="t")
        )
        assert handle.result(60).exit_code == 0
        left = worker._runner._folder
        assert service.orch.submit_task(Task("double", 1)).result(60) == 2
    assert not left.exists()
    found = [path.name for path in (tmp_path / "artifacts" / "t").rglob("*")]
    assert sorted(found) == ["-1.1", "good", "output.log"]
    for name in ("a\nb", "\\udcff", "\\x1b[2J"):
        assert f"{name} of t was not sent" in caplog.text


def test_files_that_are_refused_are_left_out(service, monkeypatch, caplog):
    monkeypatch.setattr("taskorch.ext.service._artifacts.MAX_FILES", 1)
    with running(service):
        script = "touch $TASKORCH_ARTIFACTS/a $TASKORCH_ARTIFACTS/b"
        assert service.orch.submit_task(sh(script)).result(60).exit_code == 0
        eventually(lambda: "b of" in caplog.text)
    assert "was not sent: an attempt has at most 1 files" in caplog.text


# -- the wire --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "127.0.0.1:1", "http://x:99999999", "http://["]
)
def test_what_is_no_address(url):
    with pytest.raises(InvalidTaskError, match="no address"):
        Agent("far", url)


def test_a_line_says_it_again_where_an_idle_connection_was_ended(service):
    line = Line(ServiceAddress(service.server.url, "far", "s" * 20, service.token))
    hello = {"protocol": 1, "session": "s" * 20}
    line.say("hello", hello, 30)
    line._connection.sock.shutdown(2)
    assert line.say("heartbeat", {}, 30) == {"stop": []}
    with pytest.raises(Refusal) as caught:
        line.say("leave", {"unbegun": 3}, 30)
    assert (caught.value.status, caught.value.is_passing) == (422, False)
    line.close()
    with pytest.raises(Unreachable):
        Line(ServiceAddress(f"http://127.0.0.1:{free_port()}", "far", "s")).say(
            "x", {}, 5
        )


def test_what_is_cut_is_not_said_again(service, monkeypatch):
    line = Line(ServiceAddress(service.server.url, "far", "s" * 20, service.token))
    line.say("hello", {"protocol": 1, "session": "s" * 20, "lease": 600.0}, 30)
    said = []
    exchange = Line._exchange

    def exchanged(line, verb, *rest):
        said.append(verb)
        return exchange(line, verb, *rest)

    monkeypatch.setattr(Line, "_exchange", exchanged)
    claim = {"running": [], "most": 1, "wait": 20.0}
    ended = []

    def ask():
        with pytest.raises(Unreachable):
            line.say("claim", claim, 60)
        ended.append(True)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: said)
    line.cut()
    asking.join(60)
    assert (ended, said) == ([True], ["claim"])


def test_what_answers_may_be_something_else():
    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(Unreachable, match="no service of taskorch"):
            Line(ServiceAddress(url, "far", "s")).say("hello", {}, 30)
        thread.join()


# -- what it can do --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "runs", "why"),
    [
        (["x"], [], "TYPE="),
        (["=json:dumps"], [], "TYPE="),
        (["x=json"], [], "no such function"),
        (["x=json:nothing"], [], "no such function"),
        (["x=no_such_module:f"], [], "no such function"),
        (["x=json:__name__"], [], "is no function"),
        ([], ["x='"], "no command"),
        ([], ["x= "], "empty"),
    ],
)
def test_what_it_is_said_to_do_must_be_there(calls, runs, why):
    with pytest.raises(InvalidTaskError, match=why):
        Abilities.of([], calls, runs)


# -- the command -----------------------------------------------------------------------


def test_the_command_works_and_ends_cleanly(service, tmp_path):
    log, pid_file = tmp_path / "logs" / "a.log", tmp_path / "pid"
    arguments = ["--can", "sh", "--call", "dumps=json:dumps", "--max-concurrency", "2"]
    with worker_process(service, log, *arguments) as process:
        assert service.orch.submit_task(Task("dumps", [1])).result(60) == "[1]"
        handle = service.orch.submit_task(sh(f"echo $$ > {pid_file}; exec sleep 600"))
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        eventually(lambda: not is_alive(int(pid_file.read_text())))
        assert service.orch.agents.is_lost("agent_001")
        assert not handle.done()
    text = log.read_text()
    assert "INFO agent_001: is taken by http" in text
    assert "INFO agent_001: has ended" in text


def test_a_function_that_hangs_does_not_hold_the_command(service, tmp_path):
    log = tmp_path / "a.log"
    with worker_process(service, log, "--call", "hang=time:sleep") as process:
        service.orch.submit_task(Task("hang", 600, id="t"))
        eventually(lambda: service.orch.get_task_status("t").state.value == "running")
        eventually(lambda: "begins t" in log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        assert service.orch.agents.is_lost("agent_001")


def test_a_worker_that_is_killed_leaves_no_program_and_its_files_go_with_the_next(
    service, tmp_path
):
    log, pid_file = tmp_path / "a.log", tmp_path / "pid"
    script = f"echo $$ > {pid_file}; echo x > $TASKORCH_ARTIFACTS/f; exec sleep 600"
    for run in ("a", "b"):
        with worker_process(service, log, "--can", "sh", "--lease", "1") as process:
            service.orch.submit_task(sh(script, id=run))
            eventually(lambda: len(list(tmp_path.rglob("artifacts/f"))) == 1)
            (found,) = tmp_path.rglob("artifacts/f")
            process.kill()
            process.wait(60)
            eventually(lambda: not is_alive(int(pid_file.read_text())))
            service.orch.cancel_task(run)
            eventually(lambda: service.orch.agents.is_lost("agent_001"))
    assert found.exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--agent-id", "../x"], "no safe id"),
        (["--max-concurrency", "0"], "--max-concurrency"),
        (["--lease", "0"], "--lease"),
        (["--drain", "-1"], "--drain"),
        (["--call", "x"], "TYPE="),
        (["--log-file", "/dev/null/x"], "--log-file"),
    ],
)
def test_what_the_command_refuses(arguments, why, capsys):
    words = ["--agent-id", "far", "--orchestrator-endpoint", "http://127.0.0.1:9"]
    code, _, said = taskorch(capsys, "agent", *words, *arguments)
    assert (code, why in said) == (2, True)
    assert "Traceback" not in said


def test_the_commands_token_is_not_among_its_arguments(service, monkeypatch, capsys):
    monkeypatch.setenv("TASKORCH_TOKEN", "y" * 20)
    url = service.server.url
    command = ["agent", "--agent-id", "far", "--orchestrator-endpoint", url]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "TASKORCH_TOKEN" in said
    assert "y" * 20 not in said


# -- what its machine is, and has ------------------------------------------------------


def test_a_worker_says_the_names_of_its_units(service):
    names = {"gpu": NamedUnits("a", "b")}
    show = Program(["sh", "-c", "printf %s $CUDA_VISIBLE_DEVICES"])
    with running(service, capacity=names):
        eventually(lambda: "far" in service.orch.agents.health())
        task = Task("program", show, requires=["sh"], resources={"gpu": 2})
        assert service.orch.submit_task(task).result(60).stdout_tail == "a,b"


def test_what_a_template_says_of_its_workers_holds_for_those_that_join(
    service, monkeypatch
):
    """Its capacity in the place of that of the machine; and what a task takes."""
    monkeypatch.setenv("TASKORCH_TOKEN", service.token)
    command = [sys.executable, "-m", "taskorch", "agent", "--agent-id", "{id}"]
    command += ["--orchestrator-endpoint", service.server.url, "--can", "sh"]
    workers = service.orch.agents
    service.orch.resources.resize({"memory_mb": 1e12})
    own = {"capacity": {"cpu": 0.5}, "request": {"cpu": 0.25}, "capabilities": ["sh"]}
    workers.template("own", executor="service", start=command, **own)
    workers.spawn("own")
    eventually(lambda: workers.get("own-1").status == "idle")
    shown = workers.get("own-1")
    assert (shown.capacity["cpu"], shown.capacity["memory_mb"]) == (0.5, 1e12)
    assert shown.labels == workers.get("local").labels
    assert workers.provision_new_agent(["sh", "platform:aix"]) is None
    task = sh("sleep 60", id="t")
    service.orch.submit_task(task)
    eventually(lambda: workers.get("own-1").allocation == Resources(cpu=0.25))
    service.orch.cancel_task("t")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("cpu", "says no value"),
        ("cpu=-1", "not between 0"),
        ("cpu=many", "an amount is a number"),
        ("cpu=NaN", "not between 0"),
    ],
)
def test_a_capacity_that_is_none_is_refused(capsys, words, fault):
    url = "http://127.0.0.1:9"
    command = ["agent", "--agent-id", "x", "--orchestrator-endpoint", url]
    assert main([*command, "--capacity", words]) == 2
    assert fault in capsys.readouterr().err


class Older(Counting):
    """A service of before labels were known: it refuses what it does not know."""

    hellos: ClassVar[list[list[str]]] = []

    def do_POST(self):
        if not self.path.endswith("/hello"):
            super().do_POST()
            return
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.hellos.append([*said])
        refuses = "labels" in said
        answer = {"detail": "labels: not allowed", "code": "invalid"}
        if not refuses:
            answer = {"lease": self.lease, "artifacts": False}
        body = json.dumps(answer).encode()
        self.send_response(422 if refuses else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_service_that_knows_no_labels_gets_none(caplog):
    Older.hellos.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Older) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        worker = Agent("far", url, abilities=Abilities((), {"nap": double}))
        with at_work(worker):
            eventually(lambda: len(Older.hellos) > 1)
            eventually(lambda: "does not take its labels" in caplog.text)
        server.shutdown()
    assert "labels" in Older.hellos[0]
    assert "host" not in Older.hellos[1]
    assert all({"labels", "host"}.isdisjoint(hello) for hello in Older.hellos[2:])
    assert all("capacity" in hello for hello in Older.hellos)
