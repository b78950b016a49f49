"""Workers are killed, stopped, cut off, as is the orchestrator: all ends once, and right."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.ext.remote_workers.serving import TOKEN
from tests.ext.remote_workers.tools import Proxy, free_port

from taskorch.events import TaskCancelled, TaskCompleted, TaskFailed
from taskorch.ext.views import JournalReader

ROOT = Path(__file__).parents[3]
LEASE = 2.0
ENDS = (TaskCompleted, TaskFailed, TaskCancelled)


class Process:
    """A process that can be killed, stopped, and begun again."""

    def __init__(self, folder, *command):
        self.command = [sys.executable, "-m", *command]
        # One that is killed leaves its files behind.
        place = {"TMPDIR": str(folder)}
        self.env = {**os.environ, **place, "TASKORCH_TOKEN": TOKEN}
        self.begin()

    def begin(self):
        self.found = subprocess.Popen(self.command, cwd=ROOT, env=self.env)

    def again(self):
        self.kill()
        self.begin()

    def kill(self):
        self.found.kill()
        self.found.wait()


class Play:
    """A service, its workers, each behind a network that loses things; their faults."""

    def __init__(self, folder, stack, *, workers, tasks, seed):
        self.dice = random.Random(seed)
        self.port = free_port()
        self.folder = folder
        self.server = Process(
            *(folder, "tests.ext.remote_workers.serving"),
            *(str(folder), str(self.port), str(tasks)),
        )
        stack.callback(self.server.kill)
        self.proxies = [
            stack.enter_context(Proxy(self.port, drop=0.01, delay=0.02, seed=number))
            for number in range(workers)
        ]
        self.workers = [
            Process(
                folder,
                *("taskorch", "agent", "--agent-id", f"agent_{number}"),
                *("--orchestrator-endpoint", proxy.url, "--lease", str(LEASE)),
                *("--log-file", str(folder / f"agent_{number}.log")),
                *("--call", "work=tests.ext.remote_workers.serving:work"),
                *("--max-concurrency", "8"),
            )
            for number, proxy in enumerate(self.proxies)
        ]
        for worker in self.workers:
            stack.callback(worker.kill)

    @property
    def is_over(self):
        return (self.folder / "results").exists()

    def pause(self, seconds):
        """Let things go on for a while."""
        end = time.monotonic() + seconds
        while not self.is_over and time.monotonic() < end:
            time.sleep(0.02)

    # -- faults --------------------------------------------------------------------

    def kill_a_worker(self):
        self.dice.choice(self.workers).again()

    def stop_a_worker(self):
        """For longer than its lease: it comes back with late results."""
        found = self.dice.choice(self.workers).found
        found.send_signal(signal.SIGSTOP)
        self.pause(1.5 * LEASE)
        found.send_signal(signal.SIGCONT)

    def cut_one_off(self):
        proxy = self.dice.choice(self.proxies)
        proxy.cut()
        self.pause(self.dice.choice([0.2, 1.5]) * LEASE)
        proxy.mend()

    def restart_the_server(self):
        if not self.is_over:
            self.server.again()

    def befall(self, faults):
        for fault in faults:
            self.pause(self.dice.random())
            getattr(self, fault)()


@contextmanager
def play(folder, **options):
    with ExitStack() as stack:
        yield Play(folder, stack, **options)


def check(folder, tasks):
    assert json.loads((folder / "results").read_text()) == [n * n for n in range(tasks)]
    events = JournalReader(folder / "runs.db").happened()
    ends = Counter(
        (type(event).__name__, event.task_id)
        for event in events
        if isinstance(event, ENDS)
    )
    assert ends == {("TaskCompleted", f"t/{n}"): 1 for n in range(tasks)}


KINDS = ("kill_a_worker", "stop_a_worker", "cut_one_off", "restart_the_server")


def run(folder, faults, *, agents, tasks, seconds):
    with play(folder, agents=agents, tasks=tasks, seed=1) as found:
        found.befall(faults)
        found.pause(seconds)
        found.server.found.wait(60)
    check(folder, tasks)


@pytest.mark.slow("sixty tasks through each fault")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", KINDS)
def test_whatever_happens_all_ends_once_and_right(tmp_path, fault):
    run(tmp_path, [fault], agents=2, tasks=60, seconds=200)


@pytest.mark.slow("thousands of tasks through all faults")
@pytest.mark.timeout(900)
def test_eight_workers_and_thousands_of_tasks_through_all_of_it(tmp_path):
    faults = [*KINDS * 2]
    random.Random(3).shuffle(faults)
    run(tmp_path, faults, agents=8, tasks=2_500, seconds=600)
