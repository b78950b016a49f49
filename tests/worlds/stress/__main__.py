"""
Stress: what the simulator cannot see, for as long as you like, from seeds.

Each seed is a round of one or more lives of an orchestrator on one journal. What its
threads do, what happens to it and to its programs from outside, and how each life ends
is drawn from the seed; what comes of it depends on the machine, too. Of a round that
fails it prints what was wrong, and how to repeat it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.worlds.faults import ledger
from tests.worlds.stress import life

from taskorch import SqliteJournal
from taskorch.core.executors._programs import _guardian
from taskorch.events import TaskCancelled, TaskCompleted, TaskFailed, TaskSubmitted

PR_SET_CHILD_SUBREAPER = 36
CLONE3 = 435
#: Processes that get numbers of ended programs when an incarnation is killed.
STRANGERS = 5
ENDS = (TaskCompleted, TaskFailed, TaskCancelled)


class Round:
    """The incarnations of one seed, and what must be so after them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.journal = folder / "journal.db"
        (folder / "tmp").mkdir()
        #: Processes of incarnations that go on.
        self.living: dict[int, life.Plan] = {}
        self.killed: set[int] = set()
        self.faults: list[str] = []
        #: Processes of others, with numbers that programs of ours had.
        self.strangers: list[int] = []
        #: Numbers of programs of ours, and since when nobody has them.
        self.free: dict[int, float] = {}
        #: Nobody watches over the programs: the next incarnation that begins ends them.
        self.unwatched = False
        #: There may be such programs of an earlier incarnation.
        self.abandoned = False

    def run(self) -> list[str]:
        """All incarnations, one after another; what was wrong."""
        for plan in self.plans():
            pids = [self.begin(plan)]
            if plan.take_over and self.random.random() < 0.5:
                pids.append(self.begin(plan))
            end = time.monotonic() + plan.seconds
            while time.monotonic() < end and self.look() and pids[0] in self.living:
                time.sleep(self.random.expovariate(1 / 0.1))
                self.meddle(plan)
            if plan.end in ("kill", "forgotten"):
                # What ends its programs now must not meet others.
                for _ in range(STRANGERS):
                    self.reuse_number()
                self.killed.update(self.living)
                for pid in self.living:
                    os.kill(pid, signal.SIGKILL)
            if plan.end != "takeover":
                self.await_end(plan)
        # Programs that are left would be taken for those of the next round.
        self.end_orphans()
        self.check_ledger()
        self.check_strangers()
        left = list((self.journal.parent / "tmp").iterdir())
        if left:
            self.faults.append(f"it leaves {left}")
        return self.faults

    def plans(self):
        """What is to become of each incarnation; all are drained in the end."""
        random, seed, end = self.random, self.seed, ""
        if random.random() < 0.4:
            end = random.choice(["memory", "disk"])
            if end == "memory" and random.random() < 0.5:
                yield life.Plan(f"{seed}/-", self.journal, "forgotten", 0.5)
            yield life.Plan(f"{seed}/0", self.journal, end, 2.0)
            return
        for number in range(random.choice([1, 2, 3])):
            take_over = end == "takeover"
            end = random.choice(["kill", "kill", "takeover", "stop", "hurry", "drain"])
            seconds, skew = random.uniform(0.3, 1.2), random.choice([0, -3600, 60])
            yield life.Plan(
                f"{seed}/{number}", self.journal, end, seconds, skew, take_over
            )
        take_over = end == "takeover"
        skew = random.choice([0, -3600])
        yield life.Plan(f"{seed}/last", self.journal, "drain", 0.3, skew, take_over)

    def begin(self, plan: life.Plan) -> int:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = life.main(plan)
            except BaseException:
                life.fault(traceback.format_exc())
            finally:
                os._exit(code)
        self.living[pid] = plan
        return pid

    def look(self) -> bool:
        """
        Bury the dead, also those that have become ours; whether an incarnation goes on.
        """
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                plan = self.living.pop(found[0], None)
                code = os.waitstatus_to_exitcode(found[1])
                if plan and code not in (0, 3) and found[0] not in self.killed:
                    self.faults.append(f"incarnation {plan.seed} ended with {code}")
        return bool(self.living)

    def children(self, parent: int) -> list[int]:
        def is_child(pid: int) -> bool:
            state = _guardian.state_of(pid)
            return state is not None and state.parent == parent and state.alive

        return _guardian.find(is_child)

    def meddle(self, plan: life.Plan) -> None:
        """
        Do something to an incarnation, its programs or its guardian, from outside.
        """
        self.look()
        self.note_free()
        if self.random.random() < 0.3:
            self.reuse_number()
        for pid in tuple(self.living):
            targets = self.children(pid)
            if self.random.random() < 0.2:
                targets = [pid]
            if not targets:
                continue
            target = self.random.choice(targets)
            with suppress(ProcessLookupError):
                os.kill(target, signal.SIGSTOP)
                longest = 0.3 if is_guardian(name_of(target)) else 0.05
                time.sleep(longest * self.random.random())
                # It may have begun to execute its program meanwhile.
                name = name_of(target)
                is_incarnation = target in self.living
                if is_incarnation or (is_guardian(name) and self.random.random() < 0.5):
                    os.kill(target, signal.SIGCONT)
                else:
                    # Whether a program was to go on is not for us to say. What has not
                    # begun yet may be going to be the guardian.
                    self.unwatched |= not is_program(name)
                    os.kill(target, signal.SIGKILL)

    def note_free(self) -> None:
        now = time.monotonic()
        for pid in {int(pid) for _, pid in ledger.of(self.journal, "pid")}:
            if _guardian.state_of(pid) is None:
                self.free.setdefault(pid, now)
            else:
                self.free.pop(pid, None)

    def reuse_number(self) -> None:
        """The number of a program that ended a while ago goes to another process."""
        self.note_free()
        now = time.monotonic()
        free = [pid for pid, since in self.free.items() if now - since > 0.5]
        if free and (pid := fork_as(self.random.choice(free))):
            self.strangers.append(pid)

    def check_strangers(self) -> None:
        """Nobody has sent them a signal."""
        for pid in self.strangers:
            state = _guardian.state_of(pid)
            if state is None or state.letter != "S":
                self.faults.append(f"a stranger was met: {state and state.letter}")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.look()

    def await_end(self, plan: life.Plan) -> None:
        """All incarnations end, and nothing of theirs is left.

        What nobody watches over any more is left to the next life that begins, if
        there is one.
        """
        end = time.monotonic() + 4 * life.PATIENCE
        while self.look():
            if time.monotonic() > end:
                self.faults.append("an incarnation does not end")
                for pid in self.living:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

        if [plan.seed] in ledger.of(self.journal, "begun"):
            self.abandoned = False
        unwatched = self.abandoned or self.unwatched
        self.abandoned, self.unwatched = unwatched, False
        if not unwatched:
            for pid in life.until(self.orphans, life.PATIENCE):
                self.faults.append(f"an orphan: {described(pid)}")
        if not unwatched or plan.end == "forgotten":
            self.end_orphans()
            self.abandoned = False

    def orphans(self) -> list[int]:
        """What lives that are over have left running."""
        self.look()
        return [c for c in self.children(os.getpid()) if c not in self.strangers]

    def end_orphans(self) -> None:
        """Kill them, and what they leave in turn."""

        def killed() -> list[int]:
            found = self.orphans()
            for pid in found:
                os.kill(pid, signal.SIGKILL)
            return found

        life.until(killed, life.PATIENCE)

    def check_ledger(self) -> None:
        """
        What the incarnations have found, and that the journal holds what was promised.
        """
        events = []
        if self.journal.exists():
            events = [event for event, _ in SqliteJournal(self.journal).read()]
            self.check_journal(events)
        born = {event[3] for event in events if event[0] is TaskSubmitted}
        done = {event[3] for event in events if event[0] is TaskCompleted}
        for kind, *words in ledger.lines(self.journal):
            if kind == "fault":
                self.faults.append(" ".join(words))
            elif kind == "overlap":
                self.faults.append(f"two attempts of {words} at once")
            elif events and kind == "cut":
                self.check_cut(self.journal.parent / f"cut-{words[0]}", int(words[1]))
            elif events and kind == "accepted" and words[0] not in born:
                self.faults.append(f"{words} was accepted and is lost")
            elif events and kind == "done" and words[0] not in done:
                self.faults.append(f"{words} was done and is not")

    def check_journal(self, events) -> None:
        """Events follow each other in order, and each task has one end."""
        times = [event[2] for event in events]
        if times != sorted(times):
            self.faults.append("its clock went back")
        if [event[1] for event in events] != list(range(1, len(events) + 1)):
            self.faults.append("numbers of events are missing")
        ends = Counter(event[3] for event in events if event[0] in ENDS)
        born = [event[3] for event in events if event[0] is TaskSubmitted]
        wrong = {task: ends[task] for task in born if ends[task] != 1}
        if wrong:
            self.faults.append(f"they have not one end: {wrong}")

    def check_cut(self, folder: Path, promised: int) -> None:
        """The first *promised* tasks are on a disk whose power has failed."""
        accepted = [task for (task,) in ledger.of(self.journal, "accepted")][:promised]
        entries = SqliteJournal(folder / self.journal.name).read() if promised else ()
        there = {event[3] for event, _ in entries if event[0] is TaskSubmitted}
        lost = [task for task in accepted if task not in there]
        if lost:
            self.faults.append(f"after a power failure {lost} are lost")


def fork_as(pid: int) -> int:
    """A process of that number which does nothing; 0 if the system does not let us."""
    number = ctypes.c_int(pid)
    words = [0] * 11
    words[4], words[8], words[9] = signal.SIGCHLD, ctypes.addressof(number), 1
    made = ctypes.CDLL(None).syscall(CLONE3, struct.pack("11Q", *words), 88)
    if made:
        return max(0, made)
    os.setsid()
    while True:
        signal.pause()


def is_program(name: str) -> bool:
    return name.startswith("sh ")


def is_guardian(name: str) -> bool:
    return "_guardian" in name


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def described(pid: int) -> str:
    """Its command; its state, group, session and start; the marks of its run."""
    state = _guardian.state_of(pid)
    marks = [
        each.decode()
        for each in _guardian.environment_of(pid).split(b"\0")
        if b"TASKORCH" in each
    ]
    stat = state and (state.letter, state.group, state.session, state.started)
    return f"{pid} {name_of(pid)!r} {stat} {marks}"


def run(seed: int) -> list[str]:
    """A round in a folder of its own; what was wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"stress-{seed}-"))
    faults = Round(seed, folder).run()
    if faults:
        faults.append(f"its files: {folder}")
    else:
        shutil.rmtree(folder)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.worlds.stress", description=__doc__
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--rounds", type=int, default=10**9, help="at most so many")
    parser.add_argument("--times", type=int, default=1, help="each seed so often")
    parser.add_argument("--keep-going", action="store_true", help="after a failure")
    given = parser.parse_args()
    if sys.platform != "linux":
        print("it looks into /proc, so it runs on Linux only")
        return 0
    # What is left of an incarnation becomes a child of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    end = time.monotonic() + given.minutes * 60
    seed, failed = given.seed, 0
    while time.monotonic() < end and seed < given.seed + given.rounds:
        for _ in range(given.times):
            if faults := run(seed):
                failed += 1
                print(f"seed {seed}:", *faults, sep="\n  ")
                print(f"again: make stress SEED={seed} TIMES=20", flush=True)
                if not given.keep_going:
                    return 1
        seed += 1
    print(f"seeds {given.seed} to {seed - 1}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
