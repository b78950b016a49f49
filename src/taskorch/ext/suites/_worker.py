"""
The process of a worker: it runs one test task after another.

It loads pytest for its first task of pytest, and each task is a fork of it, so that
starting costs next to nothing and no task sees what another left behind. Where
something that it has loaded is to be measured, or variables are set that are read when
an interpreter or a module is loaded, the fork begins anew as another interpreter. It
reads requests from its standard input, a line of JSON each, and writes events to its
standard output, in the same form:

    {"run": {"kind": "pytest", "args": ["-q"], "log": "A1.log", …}}
    {"stop": 10.0}

    {"event": "begun", "group": 4711}
    {"event": "test", "done": 3, "total": 45, …}
    {"event": "ended", "exit_code": 0, "memory_mb": 120.0, …}

A test of pytest may end the process that it runs in. It is noted as that, and the
tests behind it run in another fork, as if it had failed. Where the task is held to
limits, and was killed, it asks first whether that was a limit. Where the job says
`again`, each test that has failed is run once more, alone in a fork:

    {"event": "killed"}
    {"go_on": true}

When its input ends, as it does when the orchestrator dies, it ends what it runs, and
itself; where it dies first, the orchestrator ends the group that has begun. It needs
the standard library alone, and is started by its path, so that it can run in an
environment without taskorch.

Started with the file of one request, it is a program for a worker elsewhere: it does
that, lets the worker follow its events, prints the last one, and ends.

Decisions: test-suites, worker-processes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterable, Mapping  # noqa: UP035 - so that an older Python reads it

#: Seconds that a task has to end when the orchestrator has died.
_ORPHAN_GRACE = 2.0
_HERE = Path(__file__).resolve().parent
#: Exit codes of pytest: all tests passed, some failed, none was run.
_PASSED, _FAILED, _NOTHING = 0, 1, 5
#: Outcomes of tests that have failed, and of those that have not.
_BAD, _GOOD = ("failed", "error"), ("passed", "xpassed")
#: If more tests than this failed, none is run again: that is no matter of chance.
_MOST_AGAIN = 20
#: The number of words on its command line, if one of them is the file of a request.
_WITH_FILE = 2
#: The variables that a worker elsewhere sets: the places for progress and for files.
_OF_WORKER = ("TASKORCH_PROGRESS", "TASKORCH_ARTIFACTS")


def _plugin() -> Any:
    """The plugin that lies beside this file; the package need not be importable."""
    path = _HERE / "_plugin.py"
    spec = importlib.util.spec_from_file_location("taskorch_suite_plugin", path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - a file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load() -> None:
    """Load what every fork needs that runs pytest, and which may be missing."""
    for name in ("pytest", "coverage"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


class TaskWorker:
    """Runs test jobs, one at a time."""

    def __init__(self, events: int) -> None:
        #: Where events go.
        self.events = events
        self.plugin = _plugin()
        #: Whether other tasks may follow the first.
        self.is_serving = False
        self.child = 0
        self.job = {}  # type: dict[str, Any]
        #: The usage of its forks so far, and how many of them their tests have ended.
        self.used = {}  # type: dict[str, float]
        self.crashes = 0
        #: The failed tests that are run once more; None: that is not known yet.
        self.again = None  # type: list[str] | None
        self.code = 0
        self.is_stopped = False
        self.began = 0.0
        self.kill_at = None  # type: float | None
        self.asked = b""
        #: How the latest one ended.
        self.ended = {}  # type: dict[str, Any]

    def emit(self, event: dict[str, Any]) -> None:
        """Write *event*."""
        line = json.dumps(event).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self.events, line) :]
        except OSError:
            # Nobody is there to hear of it.
            return

    def serve(self) -> int:
        """Serve requests until the input ends; the exit code."""
        self.is_serving = True
        self.emit({"event": "ready", "pid": os.getpid(), "python": sys.executable})
        self._work(_waking(), is_over=False)
        return 0

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a single job; its last event."""
        wake = _waking()
        self._start(job)
        # The sender of the signal kills what has not ended in time.
        signal.signal(signal.SIGTERM, self._hand_on)
        self._work(wake, is_over=True)
        return self.ended

    def _work(self, wake: int, *, is_over: bool) -> None:
        """Serve until the input has ended and no child runs."""
        while not is_over or self.child:
            # Once its input has ended, it would be ready for ever.
            sources = [wake] if is_over else [wake, 0]
            ready, _, _ = select.select(sources, [], [], self._patience())
            if wake in ready:
                os.read(wake, 4096)
            if 0 in ready and self._hears():
                is_over = True
                self._stop(_ORPHAN_GRACE)
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                self._signal(signal.SIGKILL)
            self._reap()

    def _patience(self) -> float | None:
        if self.kill_at is None:
            return None
        return max(0.01, self.kill_at - time.monotonic())

    def _hears(self) -> bool:
        """Take what is asked for; whether there is nobody to ask any more."""
        data = os.read(0, 1 << 16)
        *lines, self.asked = (self.asked + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "stop" in request:
                self._stop(request["stop"])
            elif "go_on" in request:
                self._go_on(-signal.SIGKILL, may_go_on=request["go_on"])
            elif not self.child:
                self._start(request["run"])
        return not data

    def _stop(self, grace: float) -> None:
        self.is_stopped = True
        if self.child:
            self._signal(signal.SIGTERM)
            self.kill_at = time.monotonic() + grace

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.child, number)

    def _hand_on(self, number: int, _frame: object) -> None:
        self.is_stopped = True
        if self.child:
            self._signal(number)

    def _start(self, job: dict[str, Any]) -> None:
        self.began = time.monotonic()
        self.job, self.used, self.crashes = job, {}, 0
        self.again = None
        self.is_stopped = False
        if self.is_serving and job["kind"] == "pytest" and "pytest" not in sys.modules:
            _load()
        self._fork(job)

    def _fork(self, job: dict[str, Any]) -> None:
        self.kill_at = None
        self.child = os.fork()
        if not self.child:
            self._become(job)
        # In both processes, since either may come first.
        with contextlib.suppress(OSError):
            os.setpgid(self.child, self.child)

    def _become(self, job: dict[str, Any]) -> None:
        """Run the task, in the new process."""
        os.setpgid(0, 0)
        refusal = _join(job.get("joins", ()))
        # Before it runs, so that the parent knows what to end if we die.
        self.emit({"event": "begun", "group": os.getpid()})
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        mode = os.O_APPEND if "done" in job or "only" in job else os.O_TRUNC
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | mode, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        code = 127
        try:
            if refusal is not None:
                raise refusal
            is_set = _is_set(job["env"])
            os.environ.update({**job["env"], **job.get("attempt", {})})
            os.chdir(job["cwd"])
            if job["kind"] == "command":
                # Python ignores these signals, but programs expect their usual effect.
                for number in (signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(number, signal.SIG_DFL)
                os.execvp(job["args"][0], job["args"])  # noqa: S606 - the configuration's
            if not is_set or any(map(_is_loaded, job["coverage"])):
                self._begin_anew(job)
            code = self.run_pytest(job)
        except OSError as error:
            name = error.filename or job["args"][0]
            sys.stderr.write(f"taskorch: {name}: {error.strerror}\n")
        # The interpreter ends as any: what tests have registered for that is called.
        sys.exit(code)

    def _begin_anew(self, job: dict[str, Any]) -> None:
        """Run the task in an interpreter that has loaded nothing yet."""
        with tempfile.TemporaryFile("w") as kept:
            json.dump(job, kept)
            kept.flush()
            files = (kept.fileno(), self.events)
            for file in files:
                os.set_inheritable(file, True)  # noqa: FBT003 - the system's
            os.execv(  # noqa: S606 - this file
                sys.executable, [sys.executable, __file__, *map(str, files)]
            )

    def run_pytest(self, job: dict[str, Any]) -> int:
        """Run a task of pytest in this process; the exit code."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # As `python -m pytest` has it. PYTHONSAFEPATH lets no such folder be there.
        if not getattr(sys.flags, "safe_path", False):
            sys.path[0] = os.getcwd()  # noqa: PTH109 - a text
        sys.argv = ["pytest", *job["args"]]
        measure = _Coverage(job) if job["coverage"] else None
        try:
            import pytest  # noqa: PLC0415 - it may be missing
        except ImportError:
            sys.stderr.write(f"taskorch: {sys.executable} has no pytest\n")
            return 4
        order = {n: job[n] for n in ("done", "bad", "last", "only") if n in job}
        recorder = self.plugin.Recorder(self.emit, job["results"], **order)
        args = job["args"]
        if job.get("is_to_split"):
            args = [self.plugin.Word(word) for word in args]
            for place, word in enumerate(args):
                word.place = place
        code = 3
        try:
            code = int(pytest.main(args, plugins=[recorder]))
        finally:
            if measure is not None:
                measure.end()
            recorder.end(code)
        return code

    def _reap(self) -> None:
        if not self.child:
            return
        pid, status, used = os.wait4(self.child, os.WNOHANG)
        if not pid:
            return
        # The processes that it left in its group end, too.
        self._signal(signal.SIGKILL)
        self.child, self.kill_at = 0, None
        code = os.waitstatus_to_exitcode(status)
        for name, much in self.plugin.usage(used).items():
            before = self.used.get(name, 0.0)
            most = max(before, much) if name == "memory_mb" else before + much
            self.used[name] = round(most, 3)
        if self.job.get("held") and code == -signal.SIGKILL:
            self.emit({"event": "killed"})
        else:
            self._go_on(code)

    def _go_on(self, code: int, *, may_go_on: bool = True) -> None:
        """Run what is left, if it may; else the task has ended with this exit code."""
        may_go_on = may_go_on and not self.is_stopped
        if self.again is None:
            rest = self._rest(code) if may_go_on else None
            if rest is not None:
                self._fork(rest)
                return
            if self.crashes and code in (_PASSED, _NOTHING):
                code = _FAILED
            self.code = code
            self.again = self._failed() if may_go_on and code == _FAILED else []
        else:
            self._note_again(self.again.pop(0))
            if not may_go_on:
                self.code = code
        if self.again and may_go_on:
            self._fork(self._alone(self.again[0]))
            return
        self.ended = {
            "event": "ended",
            "exit_code": self.code,
            "seconds": time.monotonic() - self.began,
            "host": os.uname().nodename,
            **self.used,
        }
        self.emit(self.ended)

    def _rest(self, code: int) -> Any:
        """The job without the tests that have begun; None: nothing is left to do."""
        job = self.job
        if job["kind"] != "pytest":
            return None
        notes = _notes(job["results"])
        if any("exit_code" in note or "spread" in note for note in notes):
            return None
        began = {
            note["began"]["id"]: note["began"] for note in notes if "began" in note
        }
        ended = _ends(notes)
        killers = [test for name, test in began.items() if name not in ended]
        # Each process has fewer tests than the one before it, and so there is a last
        # one; not if tests have other names each time that they are collected.
        first = next((n["collected"] for n in notes if "collected" in n), ())
        if not killers or not {test["id"] for test in killers}.issubset(first):
            return None
        self.crashes += 1
        with open(job["results"], "a", encoding="utf-8") as file:  # noqa: PTH123 - a name
            for test in killers:
                ended[test["id"]] = _killer(test, code)
                file.write(json.dumps({"ended": ended[test["id"]]}) + "\n")
        for test in killers:
            self._say(f"{test['id']}: the tests behind it run in another process")
        bad = sum(test["outcome"] in _BAD for test in ended.values())
        return {**job, "done": [*ended], "bad": bad}

    def _failed(self) -> list[str]:
        """The tests that have failed, if each is to be run once more."""
        if not self.job.get("again"):
            return []
        notes = _notes(self.job["results"])
        began = {note["began"]["id"] for note in notes if "began" in note}
        bad = [
            name
            for name, test in _ends(notes).items()
            if test["outcome"] in _BAD and name in began
        ]
        if len(bad) > _MOST_AGAIN:
            text = f"{len(bad)} tests have failed: none of so many is run once more"
            self._say(text)
            return []
        return bad

    def _alone(self, name: str) -> dict[str, Any]:
        """The job that runs one test once more, alone."""
        job = self.job
        self._say(f"{name}: it has failed, and is run once more, alone")
        is_spread = any("spread" in note for note in _notes(job["results"]))
        args = [*job["args"], *(["-n0"] if is_spread else [])]
        results = f"{job['results']}.again"
        # The first run has measured its coverage.
        return {
            **job,
            "args": args,
            "only": name,
            "results": results,
            "coverage": [],
        }

    def _note_again(self, name: str) -> None:
        """Note what became of a failed test, now that it was run once more."""
        path = Path(f"{self.job['results']}.again")
        again = _ends(_notes(str(path))).get(name)
        with contextlib.suppress(OSError):
            path.unlink()
        test = _ends(_notes(self.job["results"]))[name]
        if again is None:
            # It has ended its process, or cannot be run alone.
            test["failed_again"] = True
        else:
            test["seconds"] += again["seconds"]
            is_good = again["outcome"] in _GOOD
            test["is_flaky" if is_good else "failed_again"] = True
            if is_good:
                # Why it has failed the first time stays.
                test["outcome"] = again["outcome"]
        with open(self.job["results"], "a", encoding="utf-8") as file:  # noqa: PTH123 - a name
            file.write(json.dumps({"ended": test}) + "\n")
        if not any(
            test["outcome"] in _BAD
            for test in _ends(_notes(self.job["results"])).values()
        ):
            self.code = _PASSED

    def _say(self, text: str) -> None:
        """Add a line to the log."""
        with open(self.job["log"], "a", encoding="utf-8") as file:  # noqa: PTH123 - a name
            file.write(f"\ntaskorch: {text}\n")


def _notes(path: str) -> list[dict[str, Any]]:
    """Return the notes of pytest, without a line that was cut off."""
    notes = []
    with contextlib.suppress(OSError), open(path, "rb") as lines:  # noqa: PTH123 - a name
        for line in lines:
            with contextlib.suppress(ValueError):
                notes.append(json.loads(line))
    return notes


def _ends(notes: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The ends of tests by their ids, each as it was noted last."""
    return {note["ended"]["id"]: note["ended"] for note in notes if "ended" in note}


def _killer(test: Mapping[str, Any], code: int) -> dict[str, Any]:
    """The end of a *test* that has ended its process, with this exit code."""
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    return {
        **test,
        "outcome": "error",
        "seconds": max(0.0, time.time() - test["at"]),  # noqa: TID251 - nothing of ours
        "message": f"its process has ended before pytest had: {how}",
        "properties": {"process_exit_code": code},
    }


class _Coverage:
    """Measures which lines are run, by coverage.py."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.measure = None  # type: Any
        try:
            import coverage  # noqa: PLC0415 - only where it is asked for
        except ImportError:
            sys.stderr.write(f"taskorch: {sys.executable} has no coverage\n")
            return
        other = coverage.Coverage.current()
        if other is not None:
            # A measurement of this process is not one of the tests.
            other.stop()
        # In the file of that name, even where the project's settings say `parallel`.
        self.measure = coverage.Coverage(
            data_file=job["coverage_data"], data_suffix=False, source=job["coverage"]
        )
        self.measure.start()

    def end(self) -> None:
        """Write what was measured, if anything was."""
        if self.measure is None:
            return
        import coverage  # noqa: PLC0415 - it is there

        self.measure.stop()
        # Processes that the tests have started, where these are measured as well.
        data = Path(self.job["coverage_data"])
        others = [str(path) for path in data.parent.glob(f"{data.name}.*")]
        if others:
            self.measure.combine(others)
        self.measure.save()
        try:
            self.measure.json_report(outfile=self.job["coverage_json"])
        except coverage.CoverageException as error:
            sys.stderr.write(f"taskorch: coverage: {error}\n")


def _join(paths: Iterable[str]) -> OSError | None:
    """Join the groups that hold this process to its limits; the error, if it cannot."""
    try:
        for path in paths:
            Path(path).write_text("0", encoding="utf-8")
    except OSError as error:
        return error
    return None


def _is_set(variables: Mapping[str, str]) -> bool:
    """Return whether this process began with *variables* as they are to be."""
    return all(
        # pytest looks for its own when it is called.
        name.startswith("PYTEST_") or os.environ.get(name) == value
        for name, value in variables.items()
    )


def _is_loaded(source: str) -> bool:
    """Return whether modules of *source*, a package or a folder, are loaded."""
    if source in sys.modules:
        return True
    folder = os.path.abspath(source) + os.sep  # noqa: PTH100 - a text
    files = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
    return any(file is not None and file.startswith(folder) for file in files)


def _waking() -> int:
    """Return a file that becomes readable once a child ends or a signal comes."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return wake


def _ignore(*_: object) -> None:
    """A signal of which only the pipe is to hear."""


def _run_one(path: str) -> int:
    """Run the job in the file *path*, as the program of a worker elsewhere."""
    try:
        job = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}\n")
        return 1
    # They are for this program, and tests have nothing to tell there.
    paths = [os.environ.pop(name, None) for name in _OF_WORKER]
    events = os.open(paths[0] or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ended = {**TaskWorker(events).run(job), "mark": job["mark"]}
    sys.stdout.write(json.dumps(ended) + "\n")
    return 0


def _main() -> int:
    if len(sys.argv) == _WITH_FILE:
        return _run_one(sys.argv[1])
    if len(sys.argv) > 1:
        kept, events = map(int, sys.argv[1:])
        with open(kept) as file:  # noqa: PTH123 - a descriptor
            file.seek(0)
            job = json.load(file)
        return TaskWorker(events).run_pytest(job)
    events = os.dup(1)
    # A stray print must not look like an event.
    os.dup2(2, 1)
    return TaskWorker(events).serve()


if __name__ == "__main__":
    sys.exit(_main())
