"""What all tests share."""

import faulthandler
import gc
import importlib
import logging
import os
import pkgutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.house.postgres import missing, new_server

# Runs of pytest inside tests, for the plugin that users get.
pytest_plugins = ["pytester"]

# A loaded machine is no reason to fail, so examples have no deadline, and may take long
# to draw. What CI finds must be found again on a developer's machine, so there the
# examples do not change.
settings.register_profile(
    "dev",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "ci", settings.get_profile("dev"), derandomize=True, print_blob=True
)
# A few reach every line, and show whether a law holds on another interpreter at all.
settings.register_profile("few", settings.get_profile("ci"), max_examples=10)
# Examples that nobody has seen yet, for runs that look for faults: `make laws`.
settings.register_profile(
    "fresh", settings.get_profile("dev"), max_examples=300, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


#: Seconds that a test may take beyond its own limit, as a whole: it cleans up, too.
MERCY = 60
STDERR = pytest.StashKey()
#: Bytes that are free in memory if the tests may write there.
ROOM = 4 << 30


def pytest_configure(config):
    """Keep the real stderr: what pytest captures is lost with the process."""
    if hasattr(config, "workerinput"):
        # This process is measured for coverage, if they are; what the tests start is not,
        # which would make up half of the time, and reach little that they do not.
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            del os.environ[name]
    # What a shell starts in the background ignores Ctrl-C, and so would all that the
    # tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        config.stash[STDERR] = os.dup(2)
    write_in_memory()
    import_executors()
    # How long a disk may take for a commit is no promise of the tests.
    committer = importlib.import_module("taskorch.core.engine._committer")
    committer._COMMIT_TIMEOUT_S = MERCY


def write_in_memory():
    """
    Let what the tests write stay in memory, where there is room for it.

    On a machine that has just written much, a disk may take ten seconds for a commit.
    """
    try:
        memory = os.statvfs("/dev/shm")
    except OSError:
        return
    room = memory.f_bavail * memory.f_frsize
    if (
        room >= ROOM
        and not memory.f_flag & getattr(os, "ST_NOEXEC", 0)
        and os.access("/dev/shm", os.W_OK)
    ):
        os.environ.setdefault("TMPDIR", "/dev/shm")
        tempfile.tempdir = None


def import_executors():
    """
    Import what attempts would import at their first start, in threads of their own.

    pytest parses a module that it imports for the first time, and Python 3.11 fails now
    and then where two threads parse at once (python/cpython#106905).
    """
    executors = importlib.import_module("taskorch.core.executors")
    for module in pkgutil.walk_packages(executors.__path__, "taskorch.core.executors."):
        importlib.import_module(module.name)


def end_process_after(config, seconds):
    """
    Unless told again before, say where every thread stands and end this process.

    A test over its limit is ended by a signal, which a thread that keeps the interpreter
    to itself holds up, and which does not help what waits for ever afterwards: then one
    process of several ends, with one failure, in place of a run that never does.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[STDERR])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    marker = item.get_closest_marker("timeout")
    limit = marker.args[0] if marker else float(item.config.getini("timeout"))
    end_process_after(item.config, limit + MERCY)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    """Once more: where a test has failed, both pytest and its limit have let go."""
    pytest_runtest_setup(item)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish():
    faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Nor does a process of the tests wait for ever for threads that they left."""
    # What is said of failures that nobody asked for, as the interpreter ends, was of tests.
    logging.lastResort = logging.NullHandler()
    if not hasattr(session.config, "workerinput"):
        end_process_after(session.config, MERCY)
        return
    # One of several is killed by the first if it does not end within ten seconds of being
    # told to: what it has measured is kept before that.
    coverage = sys.modules.get("coverage")
    measured = coverage and coverage.Coverage.current()
    if measured:
        measured.save()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """
    Look for garbage only once all tests are collected, which takes a sixth less so.

    What is there by then stays: no test that collects garbage has to look at it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Refuse a slow test that does not say why it is slow."""
    report = yield
    mute = [
        item.nodeid
        for item in report.result
        if not all(marker.args for marker in item.iter_markers("slow"))
    ]
    if mute:
        report.outcome, report.result = "failed", []
        why = 'say why it is slow, as in @pytest.mark.slow("starts Ray")'
        report.longrepr = "\n".join(f"{name}: {why}" for name in mute)
    return report


@pytest.fixture(scope="module", autouse=True)
def _freeze_what_stays():
    """
    What is there after the tests of a file stays as well, and is not looked at again.

    Mostly modules that were imported for them. Looks for garbage took a tenth of all time.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open():
    """
    See that the tests of a file have stopped each orchestrator that keeps a journal.

    One that is left fails tests of other files, of interrupts for example.
    """
    before = journals()
    yield
    end = time.monotonic() + MERCY
    while left := journals() - before:
        names = ", ".join(each.name for each in left)
        assert time.monotonic() < end, f"nobody has stopped what has {names}"
        gc.collect()
        time.sleep(0.1)


def journals():
    """Return the threads that write journals."""
    return {each for each in threading.enumerate() if each.name.endswith("-journal")}


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_changed():
    """
    See that the tests of a file have put back each constant of ours that they changed.

    With the patience of one, tests of other files fail now and then, which nobody can explain.
    """
    before = constants()
    yield
    after = constants()
    changed = [name for name in before if after.get(name) not in (None, before[name])]
    assert not changed, f"nobody has put back {', '.join(changed)}"
    api = sys.modules.get("opentelemetry.trace")
    # Whoever sets one does so for all later tests of the process.
    assert api is None or isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


def constants():
    """Return the plain values in our modules whose names are those of constants."""
    return {
        f"{module.__name__}.{name}": value
        for module in [*sys.modules.values()]
        if getattr(module, "__name__", "").startswith("taskorch")
        for name, value in [*vars(module).items()]
        if name.isupper() and isinstance(value, int | float | str | tuple)
    }


@pytest.fixture
def caplog(caplog):
    """A log to which nothing of earlier tests is written, when its garbage is collected."""
    gc.collect()
    return caplog


@pytest.fixture
def unmeasured(monkeypatch):
    """
    Processes that this test starts are not measured for coverage.

    For those that are interrupted or killed: what measures them holds locks of its own,
    and one that is interrupted within these never ends.
    """
    for name in list(os.environ):
        if name.startswith("COVERAGE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def on_disk():
    """A folder that is not in memory, for tests to which that is not the same."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def bound_by_modes(tmp_path):
    """For tests of what is read-only: skipped where that binds us not, as with root."""
    probe = tmp_path / "read-only"
    probe.touch(0o400)
    if os.access(probe, os.W_OK):
        pytest.skip("root may write everything")
    probe.unlink()


def server_or_skip():
    if lacks := missing():
        pytest.skip(lacks)
    return new_server()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that all tests of this process share, and none disturbs."""
    with closing(server_or_skip()) as server:
        yield server


@pytest.fixture(scope="session")
def spare_postgres():
    """One that tests end and start again; each leaves it running."""
    with closing(server_or_skip()) as server:
        yield server


@pytest.fixture
def clock(monkeypatch):
    """The system's clock, which may be set: seconds by which it differs."""
    shift, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + shift[0]) * 1e9))

    def put(seconds):
        shift[0] = seconds

    return put
