"""
The tests in several processes, of which one collects them: `-p tests.forks --forks 6`.

Each process of pytest-xdist imports and collects all tests for itself, which takes as long
as a thousand of them. Here each is a fork of the one that has collected, and has what that
imported. What a test says, its reports, is told there, and goes the way of all reports.
Decision: 0291.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import os
import signal
import sys
import time
import traceback
import warnings
from multiprocessing import Pipe
from multiprocessing.connection import wait

import pytest
from _pytest import runner

#: Tests that a fork gets at once, until few are left.
CHUNK = 8
#: Seconds between looks for forks that ended while another process keeps their pipe open.
LOOK = 1.0
#: Seconds that forks have to clean up once they are told to end.
MERCY = 20.0


def pytest_addoption(parser):
    about = "Run the tests in so many forks of the process that collects them."
    parser.addoption("--forks", type=int, default=0, metavar="N", help=about)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    count = session.config.option.forks
    if not count or session.testsfailed or session.config.option.collectonly:
        return None
    Forks(session, min(count, len(session.items))).run()
    return True


class Share:
    """What one fork has to do; of what it was not given yet, others take the last ones."""

    def __init__(self, todo):
        self.todo = todo
        #: What it was given and has not done: it runs the first of them.
        self.given = []
        self.last = todo[0]
        self.pid = 0
        self.status = None
        self.pipe = None

    def reap(self, how=0):
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, how)
            self.status = status if pid else None
        return self.status is not None


class Forks:
    """Gives tests to forks, and reports what these say."""

    def __init__(self, session, count):
        self.session = session
        self.hook = session.config.hook
        total = len(session.items)
        ends = [total * number // max(count, 1) for number in range(count + 1)]
        self.shares = [Share([*range(a, b)]) for a, b in itertools.pairwise(ends)]

    def run(self):
        # All have folders in one, which each would otherwise clear of those of others.
        self.session.config._tmp_path_factory.getbasetemp()
        try:
            for share in self.shares:
                self.fork(share)
            while running := {share.pipe: share for share in self.shares if share.pid}:
                for pipe in wait(list(running), LOOK):
                    self.hear(running[pipe])
                for share in running.values():
                    if share.pid and share.reap(os.WNOHANG) and not share.pipe.poll():
                        self.end(share)
        finally:
            self.stop()

    def fork(self, share):
        share.pipe, theirs = Pipe()
        share.status = None
        sys.stdout.flush()
        sys.stderr.flush()
        share.pid = os.fork()
        if share.pid:
            theirs.close()
            return
        code = 1
        try:
            for other in self.shares:
                if other.pipe is not None:
                    other.pipe.close()
            Fork(self.session, theirs).run()
            code = 0
        except BaseException:  # whatever it is, this process ends here, and it is told
            with contextlib.suppress(OSError):
                theirs.send(("lost", traceback.format_exc()))
            runner.pytest_sessionfinish(self.session)
        finally:
            os._exit(code)

    def hear(self, share):
        what, said = "ended", []
        with contextlib.suppress(EOFError, ConnectionError):
            what, *said = share.pipe.recv()
        if what == "ended":
            share.reap()
            self.end(share)
        elif what == "more":
            # Who has ended meanwhile is heard to have ended.
            with contextlib.suppress(ConnectionError):
                share.pipe.send(self.more(share))
        elif what == "done":
            self.report(share, *said)
        else:
            self.fail(share, *said)

    def more(self, share):
        """The next tests of a fork; of another's share, once it has none."""
        if not share.todo:
            other = max(self.shares, key=lambda each: len(each.todo))
            half = len(other.todo) // 2
            share.todo, other.todo = other.todo[half:], other.todo[:half]
        left = sum(len(each.todo) for each in self.shares)
        few = max(1, min(CHUNK, left // (CHUNK * len(self.shares))))
        given, share.todo = share.todo[:few], share.todo[few:]
        share.given += given
        return given

    def report(self, share, index, reports, warned):
        share.given.remove(index)
        share.last = index
        item = self.session.items[index]
        self.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for words, when, nodeid, location in warned:
            warning = warnings.WarningMessage(*words)
            said = {"when": when, "nodeid": nodeid, "location": location}
            self.hook.pytest_warning_recorded.call_historic(
                kwargs={"warning_message": warning, **said}
            )
        for data in reports:
            report = self.hook.pytest_report_from_serializable(
                config=self.session.config, data=data
            )
            self.hook.pytest_runtest_logreport(report=report)
        self.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if self.session.shouldfail:
            raise self.session.Failed(self.session.shouldfail)
        if self.session.shouldstop:
            raise self.session.Interrupted(self.session.shouldstop)

    def end(self, share):
        """Once a fork has ended: another has what it was given, but for what it ran."""
        share.pid = 0
        share.pipe.close()
        if share.status:
            code = os.waitstatus_to_exitcode(share.status)
            self.fail(share, f"its process ended with {code}")
        share.todo = share.given + share.todo
        share.given = []
        if share.todo:
            self.fork(share)

    def fail(self, share, why):
        """Say that a fork was lost: what it ran has failed."""
        item = self.session.items[share.given[0] if share.given else share.last]
        report = pytest.TestReport(
            item.nodeid, item.location, {}, "failed", why, "call"
        )
        data = self.hook.pytest_report_to_serializable(
            config=self.session.config, report=report
        )
        if share.given:
            self.report(share, share.given[0], [data], [])
        else:
            self.hook.pytest_runtest_logreport(report=report)

    def stop(self):
        """Let those that still run clean up; all have ended then."""
        running = [share for share in self.shares if share.pid]
        for share in running:
            share.pipe.close()
        end = time.monotonic() + MERCY
        for share in running:
            while not share.reap(os.WNOHANG) and time.monotonic() < end:
                time.sleep(0.01)
            if not share.reap(os.WNOHANG):
                os.kill(share.pid, signal.SIGKILL)
                share.reap()


class Fork:
    """Runs tests in a process of its own, as a plugin of it, and says how they went."""

    def __init__(self, session, pipe):
        self.session = session
        self.config = session.config
        self.pipe = pipe
        self.reports = []
        self.warned = []

    def run(self):
        capture = self.config.pluginmanager.getplugin("capturemanager")
        # The files of the first process, into which all would write.
        capture.stop_global_capturing()
        capture.start_global_capturing()
        folders = self.config._tmp_path_factory
        folders._basetemp = folders.mktemp("fork")
        self.config.pluginmanager.register(self)
        for index, after in itertools.pairwise(self.indexes()):
            self.reports, self.warned = [], []
            items = self.session.items
            self.config.hook.pytest_runtest_protocol(
                item=items[index], nextitem=None if after is None else items[after]
            )
            self.pipe.send(("done", index, self.reports, self.warned))
        faulthandler.cancel_dump_traceback_later()

    def indexes(self):
        """Its tests: the next ones are asked for before the last one is run."""
        more = True
        while more:
            self.pipe.send(("more",))
            more = self.pipe.recv()
            yield from more
        yield None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        """Run it; who has asked for its reports, the first process, reports them."""
        self.reports = [
            self.config.hook.pytest_report_to_serializable(
                config=self.config, report=report
            )
            for report in runner.runtestprotocol(item, log=False, nextitem=nextitem)
        ]
        return True

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message, when, nodeid, location):
        said = warning_message
        words = (str(said.message), UserWarning, said.filename, said.lineno)
        self.warned.append((words, when, nodeid, location))
