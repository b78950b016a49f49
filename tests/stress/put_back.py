"""
Faults that were there once, put back one at a time: would they be found?

`python -m tests.stress.put_back` says of each which of those finds it who know of none:
the stress, the simulator, and each of the tests of what must hold whatever is done. Words
after it choose some.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.simulation.test_planted_bugs import hunt, plant

from taskorch import _handles
from taskorch.executors._programs import _guardian
from taskorch.executors._programs._guard import ProcessGuard
from taskorch.journal import _lock, _repair
from taskorch.journal._sqlite import SqliteJournal
from taskorch.kit import interrupts, temporary
from taskorch.runtime import _attempts, _passage
from taskorch.runtime._attempts import Attempts
from taskorch.runtime._committer import Committer
from taskorch.runtime._lifecycle import Lifecycle
from taskorch.runtime._opening import Rereading
from taskorch.runtime._publisher import Publisher
from taskorch.runtime._waiting import Waiting, _Watch
from taskorch.runtime._work import EffectQueue

ROOT = Path(__file__).parents[2]
#: Minutes after which a fault counts as not found.
MINUTES = 1.0


def unordered(patch):
    def drain(queue, carry_out):
        while queue._todo:
            carry_out(queue._todo.popleft())

    patch.setattr(EffectQueue, "drain", drain)


def slots_after_the_lock(patch):
    in_order, carry_out = Attempts.in_order, Attempts.carry_out

    def later(attempts, effects):
        slots = [e for e in effects if isinstance(e, _attempts.ReturnSlot)]
        others = [e for e in effects if not isinstance(e, _attempts.ReturnSlot)]
        return [*in_order(attempts, others), *slots]

    def carry_out_all(attempts, told):
        for each in told:
            if isinstance(each, _attempts.ReturnSlot):
                attempts._rt.waiting.returned(each.row, each.attempt)
            else:
                carry_out(attempts, [each])

    patch.setattr(Attempts, "in_order", later)
    patch.setattr(Attempts, "carry_out", carry_out_all)


def cut_short(patch):
    patch.setattr(interrupts, "_is_deferred_in", lambda frame: False)


def clock_of_tasks_in_memory(patch):
    plant(
        patch,
        Rereading._restore,
        "self.last, self.at_ns = until, restoration.at_ns",
        "self.last = until",
    )


def lock_unchecked(patch):
    patch.setattr(_lock.Lock, "check", lambda lock, path: None)


def loops_not_told(patch):
    plant(patch, Committer.lost, "self._settle_loops(self._loops, value=False)", "pass")


def gates_not_opened(patch):
    plant(patch, Committer.lost, "latch.set()", "pass")


def held_not_dropped(patch):
    plant(patch, Committer.lost, "self.held_back.attempts.clear()", "pass")


def nothing_written_anew(patch):
    patch.setattr(_repair, "rewrite_log", lambda log: None)
    patch.setattr(SqliteJournal, "_rewrite_log", lambda journal, db: None)


def guardian_not_told(patch):
    """What is said to one that has been stopped does not reach it."""
    remove = ProcessGuard.remove

    def remove_unless_stopped(guard, group):
        state = guard._process and _guardian.state_of(guard._process.pid)
        if not (state and state.letter == "T"):
            remove(guard, group)

    patch.setattr(ProcessGuard, "remove", remove_unless_stopped)


def grace_unbounded(patch):
    old = "left: list[_Left] = rt.step(self._close)"
    plant(patch, Lifecycle._end_work, old, f"{old}\n    self._end = None")


def waits_pile_up(patch):
    patch.setattr(Waiting, "forget_quiet", lambda waiting, wake: None)


def publisher_keeps(patch):
    plant(patch, Publisher._publish, "del arg", "pass")


def watchers_are_rings(patch):
    class Ring(_Watch):
        def __init__(self, *args):
            super().__init__(*args)
            self.me = self

    patch.setattr("taskorch.runtime._waiting._Watch", Ring)


def map_keeps(patch):
    kept, taken = [], _handles.Ahead.taken

    def keeps(ahead, result):
        kept.append(result)
        taken(ahead, result)

    patch.setattr(_handles.Ahead, "taken", keeps)


def handles_stay(patch):
    patch.setattr(_passage, "detach_control", lambda work, attempt: None)


def errors_lead_here(patch):
    plant(patch, _handles.TaskHandle.result, "del self, error", "pass")


def folders_stay(patch):
    patch.setattr(temporary, "_sweep", lambda parent: None)


def waits_for_handles(patch):
    patch.setattr(_handles, "_ASYNCIO", "nothing")


#: What was wrong, and what puts it back.
BUGS = {
    "effects on one attempt are carried out in any order": unordered,
    "a slot is returned after the lock was left": slots_after_the_lock,
    "an interrupt cuts a step short": cut_short,
    "the clock goes back after a snapshot": clock_of_tasks_in_memory,
    "of two who take over, each believes to have the lock": lock_unchecked,
    "coroutines are not told that the journal is lost": loops_not_told,
    "threads are not told that the journal is lost": gates_not_opened,
    "what was held back is not dropped": held_not_dropped,
    "after a failed sync nothing is written anew": nothing_written_anew,
    "the guardian does not hear of ends while it is stopped": guardian_not_told,
    "a stop takes the whole grace, whatever its timeout": grace_unbounded,
    "each wait that runs out leaves an entry": waits_pile_up,
    "the publisher keeps what it called last": publisher_keeps,
    "who waits for an end is a ring": watchers_are_rings,
    "a map keeps what it has yielded": map_keeps,
    "what stops an attempt leads to its task": handles_stay,
    "the frames of an error lead to its handle": errors_lead_here,
    "folders of a killed process stay": folders_stay,
    "asyncio.wait takes a handle": waits_for_handles,
}


#: What looks for them, by its name: words for Python, after which it gives another exit
#: code than 0 if it has found something. None of them knows of any fault.
FINDERS = {
    name: [
        "-m",
        "tests.stress.put_back",
        "--within",
        "{bug}",
        f"tests/invariants/{file}",
    ]
    for name, file in {
        "nothing is kept": "test_nothing_is_kept.py",
        "every wait ends": "test_every_wait_ends.py",
        "one of two": "test_one_of_two.py",
        "time": "test_time.py",
        "guardian": "test_guardian.py",
        "consumers": "test_consumers.py",
    }.items()
}
FINDERS["stress"] = [
    *("-m", "tests.stress", "--bug", "{bug}", "--seed", "1"),
    *("--minutes", str(MINUTES)),
]
FINDERS["simulator"] = ["-m", "tests.stress.put_back", "--simulated", "{bug}"]


def look(finder: str, bug: str) -> tuple[bool, float, str]:
    """Whether *finder* finds *bug*, after how many seconds, and what it says."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *(word.format(bug=bug) for word in FINDERS[finder])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    lines = done.stdout.splitlines()
    said = [line[1:] for line in lines if line.startswith("E  ")]
    said += [line for line in lines if line.startswith("  ")]
    what = (said or [""])[0].strip()
    return done.returncode == 1, time.monotonic() - began, what


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.put_back")
    parser.add_argument("words", nargs="*", help="of the names of faults; all without")
    parser.add_argument("--finder", action="append", help="only this one, or these")
    parser.add_argument("--within", help="put this one back, and run the tests named")
    parser.add_argument("--simulated", help="put this one back, and simulate")
    given = parser.parse_args()
    if given.within:
        BUGS[given.within](pytest.MonkeyPatch())
        # The library is there already, to have its fault.
        quietly = ["-q", "-x", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        return pytest.main([*quietly, "-p", "no:cacheprovider", *given.words])
    if given.simulated:
        BUGS[given.simulated](pytest.MonkeyPatch())
        found = hunt(30)
        print(f"  {found and found[1:]}")
        return found is not None
    chosen = [n for n in BUGS if any(w in n for w in given.words or [""])]
    missed = set(chosen)
    for name in chosen:
        print(name, flush=True)
        for finder in given.finder or FINDERS:
            found, seconds, what = look(finder, name)
            if found:
                missed.discard(name)
            said = f"found: {what[:110]}" if found else "-"
            print(f"    {finder:16}{seconds:4.0f} s  {said}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} are found", *sorted(missed))
    return len(missed)


if __name__ == "__main__":
    sys.exit(main())
