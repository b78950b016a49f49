"""Small worlds in which every verb of the kernel is said, and every move is made."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from typing import Any, TypeAlias

from tests.core.kernel.commands import EndAttempt
from tests.core.kernel.harness import SEC, Machine, Policies, S
from tests.core.kernel.random_run import run
from tests.core.kernel.sharing import Sharing
from tests.core.kernel.test_control import TABLE, blocked, queued, running, undecided
from tests.core.kernel.test_fold import ACTIONS, STORY_LIST, drain

from taskorch.core.kernel import (
    Again,
    AttemptOutcome,
    Claim,
    PolicyFault,
    Ruling,
    Spec,
    TaskRow,
    Terms,
    row_extra,
    rules_ask,
)
from taskorch.errors import UsageError
from taskorch.events import AlertRaised
from taskorch.model import Agent, Breaker, Elastic, Resources

World: TypeAlias = Callable[[], Machine]
Story: TypeAlias = Callable[[Machine], object]
GONE = RuntimeError("it broke")
#: Before everything has come to its end.
SOON = 20 * SEC


class Plain(Machine):
    """A machine whose events are folded later."""

    def mirror(self) -> None:
        """Not now."""


def machine(*stories: Story) -> Machine:
    policies = Policies()
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    m = Plain(policies=policies, pools=Resources(cpu=2))
    m.worker("a", "x", max_concurrency=1)
    for story in stories:
        with suppress(UsageError):
            story(m)
    return m


def lived(*stories: Story) -> Machine:
    """A machine after *stories*, and after all has come to its end."""
    m = machine(*stories)
    drain(m)
    return m


def few() -> Iterator[World]:
    """What is over in a second or two."""
    for story in (*[story for _, story in STORY_LIST], *OWN):
        yield partial(lived, story)
    yield from (quick_ways, elastic, served)
    for situation in TABLE:
        yield partial(lived, situation, touch, surround)
    for seed in range(4):
        yield partial(run, seed, 60)


def many() -> Iterator[World]:
    """What is over in half a minute."""
    yield from few()
    for story in MORE:
        yield partial(lived, story)
    for situation, action in product(TABLE, ACTIONS.values()):
        yield partial(lived, situation, action)
        yield partial(lived, situation, surround, action)
    for seed in range(100, 180):
        yield partial(run, seed, 60)


# -- stories ---------------------------------------------------------------------------


def surround(m: Machine) -> None:
    """Others wait for t, each in a way of its own."""
    m.submit("other", not_before=m.now + SOON)
    m.submit("child", after=["t"])
    m.submit("wait", after=["t"], wait=("go", 9 * SEC, False))
    m.submit("clean", after=["t"], join="finished", requires=("x",))
    m.submit("any", after=["t", "other"], join="any", on_failure="skip")
    m.submit("both", after=["t", "other"], join=2, on_failure="fail")
    m.submit("last", after=["t", "child"], on_failure="run")
    m.submit("skipped", after=["t"], on_failure="skip")
    m.submit("failed", after=["t"], on_failure="fail")
    m.submit("then", after=["t"], join="finished", wait=(None, 0, True))


def quick_ways() -> Machine:
    """Like tasks, one after the other on one slot; then one that waits for a failure."""
    m = Plain(concurrency=1)
    kernel = m.kernel
    bucket = kernel.bucket(Spec("quick"))
    for name in "abcd":
        kernel.submit(name, bucket, None, m.now)
    m.settle()
    m.end("a")
    third = kernel.complete_for_next(m.row("b"), 1, m.now)
    assert third is m.row("c")
    m.fail("c")
    kernel.submit("late", bucket, None, m.now, 0, (m.row("c"),))
    kernel.match(bucket, m.row("d"), m.now)
    assert kernel.too_small(bucket, Agent("as small", ("x",))) is None
    return m


def batch(join: str | int, on_failure: str, m: Machine) -> None:
    """Some are considered, put in order and accepted, with parents that have ended."""
    kernel, now = m.kernel, m.now
    m.submit_all("bad", "done")
    m.fail("bad")
    m.end("done")
    m.emit("go", keep=SEC)
    bucket = kernel.bucket(Spec("call"))
    each: dict[str, tuple[list[str], Terms | None]] = {
        "b1": (["bad"], None),
        "b2": (["bad", "done"], Terms(join, on_failure)),  # type: ignore[arg-type]
        "b3": (["done"], Terms(wait=("go", None, False))),
        "b4": ([], Terms(wait=(None, 0, True))),
        "b5": (["bad"], Terms("finished", wait=("stop", 0, False))),
        "b6": (["done"], Terms("asked")),
    }
    admitted = [
        kernel.consider(
            TaskRow(name, 0, bucket, None, now),
            now,
            parents=[kernel.row(parent) for parent in above],
            terms=terms,
        )
        for name, (above, terms) in each.items()
    ]
    m.policies.broken.add("join")
    for one in kernel.in_order(admitted, [1, *[None] * 5]):
        kernel.accept(one, now)
    m.policies.broken.clear()
    m.settle()


def far(m: Machine) -> None:
    """A worker elsewhere runs all that an attempt can be."""
    m.worker("far", "y", lease=60.0)
    m.submit("lost", requires=("y",))
    m.submit("held", idempotent=False, requires=("y",))
    m.submit("cancelled", requires=("y",))
    m.submit("suspended", requires=("y",))
    m.submit("stopped", requires=("y",))
    m.submit("late", timeout_ns=SEC, requires=("y",))
    m.submit("leaks", requires=("y",))
    m.submit_all("fatal", requires=("y",))
    for name in ("lost", "held", "cancelled", "late", "fatal"):
        m.submit(f"after {name}", after=[name])
        m.submit(f"if {name}", after=[name], on_failure="skip")
        m.submit(f"unless {name}", after=[name], on_failure="fail")
        m.submit(f"when {name}", after=[name], join="finished")
    m.submit("go", after=["cancelled"], join="finished", wait=(None, 0, True))
    m.cancel("leaks")
    m.after(11 * SEC)
    m.suspend("suspended")
    m.suspend("stopped", holdable=True)
    m.cancel("cancelled")
    m.end("fatal", "lost")
    m.end("fatal", "lost")


def allowed(m: Machine) -> None:
    """A failure that is allowed lets go of who waits for it."""
    m.submit("t", allow_failure=True)
    m.submit("child", after=["t"])
    m.end("t", "failed")


def left(m: Machine) -> None:
    far(m)
    m.kernel.leave("far", {("lost", 1)}, m.now)
    m.settle()


def anew(m: Machine) -> None:
    far(m)
    m.worker("far", "y")
    m.settle()


def silent(m: Machine) -> None:
    far(m)
    m.kernel.excuse(m.now)
    m.after(60 * SEC)


def forgotten(m: Machine) -> None:
    """It is there, and names none of its attempts; what they hold is free in time."""
    far(m)
    for _ in range(9):
        m.after(10 * SEC)
        m.beat("far")


def breaker(how: AttemptOutcome, m: Machine, **also: bool) -> None:
    """A worker trips, and then a probe ends."""
    for name in "bc":
        m.worker(name, "z", max_concurrency=1, breaker=Breaker(failures=2, open=1))
    timeout = SEC if also.get("slow") else None
    m.submit_all("u", "v", "w", requires=("z",), timeout_ns=timeout)
    for name in "uvw":
        if m.state(name) is S.RUNNING and m.worker_of(name) == "b":
            if timeout is None:
                m.fail(name)
                continue
            m.after(timeout)
            m.end(name)
    m.submit("t", requires=("z",))
    m.after(SEC)
    if also.get("late"):
        m.kernel.end_attempt(m.row("t"), 1, how, m.now, GONE)
    else:
        m.end("t", how)
    m.submit_all("more", "and more", requires=("z",))
    m.settle()


def answered(situation: Story, verdict: str, m: Machine) -> None:
    """Somebody answers what t is, or is held for, and others wait for that."""
    situation(m)
    surround(m)
    m.answer("t", "ada", "yes", verdict)
    m.kernel.refuse_answer(m.row("t"), "bob", "no", "it is too late", m.now)


def asked(m: Machine) -> None:
    """After a failure, a person is asked."""
    running(m)
    m.policies.chosen["t"] = Again(retry=False, ask="what now?")
    m.fail("t")


def question(m: Machine) -> None:
    m.submit("t", wait=("answer to go?", 9 * SEC, False), remind=SEC)


def chosen(how: str, answer: Again | None, m: Machine, **also: bool) -> None:
    """The handler answers in some way, after t has ended in some way."""
    m.submit("t", timeout_ns=SEC)
    surround(m)
    if also.get("suspending"):
        m.suspend("t")
    if how != "reported":
        m.after(SEC)
    if answer is not None:
        m.policies.chosen["t"] = answer
    if also.get("broken"):
        m.policies.broken.add("retry_handler")
    row = m.row("t")
    if how == "reported":
        m.fail("t")
    elif how == "completed":
        m.kernel.complete(row, 1, m.now)
    elif how == "ended":
        m.kernel.end_attempt(row, 1, "completed", m.now)
    elif how == "given up":
        m.kernel.give_up(row, m.now)
    else:
        m.after(11 * SEC)
    m.policies.broken.clear()
    m.settle()


def unknown_end(answer: Again | None, m: Machine, *, broken: bool = False) -> None:
    """We died while t ran; its worker tells later that it has failed."""
    m.worker("far", "y")
    m.submit("t", requires=("y",))
    surround(m)
    m.restart()
    if answer is not None:
        m.policies.chosen["t"] = answer
    if broken:
        m.policies.broken.add("retry_handler")
    m.kernel.fail_late(m.row("t"), GONE, m.now, ("RuntimeError", "it broke"))
    m.policies.broken.clear()
    m.reopen()


def given_up(how: str, m: Machine) -> None:
    """The driver waits no longer for an attempt that was to stop for good."""
    m.submit("t")
    surround(m)
    if how == "cancel":
        m.cancel("t")
    else:
        m.change("t", "deadline", deadline=m.now)
    m.kernel.give_up(m.row("t"), m.now)
    m.settle()


def routed_nowhere(m: Machine) -> None:
    """The router fails over a task for which others wait."""
    m.policies.broken.add("router")
    m.kernel.act_for("ada")
    m.kernel.act_for("")
    m.kernel.pause()
    m.submit("t", requires=("x",))
    surround(m)
    m.kernel.unpause()
    m.settle()
    m.policies.broken.clear()


def denied(m: Machine) -> None:
    """Rules keep a task from starting, and allow it then."""
    m.kernel.judge_starts(judged=True)
    m.policies.rulings["t"] = Ruling(denied="not today")
    m.submit("t")
    assert m.row("t") in m.kernel.denied
    m.policies.rulings.clear()
    m.kernel.release_denied(m.row("t"), m.now, "the day is over")
    m.settle()
    # What people are asked, and have not answered, nobody has let pass.
    m.policies.rulings["u"] = Ruling(denied="not today", asks=True)
    m.submit("u")
    assert m.row("u") in m.kernel.asked
    m.kernel.release_denied(m.row("u"), m.now, "")
    assert not row_extra(m.row("u")).permitted
    m.kernel.judge_starts(judged=True)
    m.settle()
    assert rules_ask(m.row("u"))
    m.kernel.decide(m.row("u"), "retry", m.now)
    assert row_extra(m.row("u")).permitted == "not today"


def missed(m: Machine) -> None:
    """What a queued task needs is gone, and another ended with nobody to do it."""
    queued(m)
    surround(m)
    m.kernel.miss(m.row("t"), "nobody can do it", m.now)
    m.submit("u")
    m.end("u", "gone")


def otherwise(m: Machine) -> None:
    """What is held is to be done with other means."""
    undecided(m)
    row = m.row("t")
    spec = Spec("call", resources=Resources(cpu=1).units, timeout_ns=SEC)
    assert m.kernel.too_much(row, spec) == ""
    m.kernel.change_held(row, Again(retry=True), spec, m.now)


def wait_suspended(then: Story, m: Machine) -> None:
    """A wait is put aside, and then something comes."""
    m.submit("t", wait=("go", 9 * SEC, True))
    surround(m)
    m.suspend("t")
    then(m)


def recalled(m: Machine, *, late: int | None = None, suspended: bool = False) -> None:
    """A clean-up was about to begin, and what it waits for is run again."""
    date = None if late is None else m.now + late
    m.submit_all("p", "q")
    m.submit("busy", requires=("x",))
    m.submit("t", after=["p", "q"], join="finished", requires=("x",), not_before=date)
    m.submit("u", after=["p"])
    m.submit("v", after=["u"])
    m.submit("first", after=["u", "q"], join="any", on_failure="fail")
    m.fail("p")
    m.end("q")
    m.add_parents("v", "q")
    if suspended:
        m.suspend("t")
    m.rerun("p")


def recalled_below(m: Machine) -> None:
    """What had been blocked may go on, as it is to wait for one more."""
    m.submit("p")
    m.submit("t", after=["p"], join="any")
    m.submit("u", after=["t"], join="finished", not_before=m.now + SOON)
    m.fail("p")
    m.submit("more")
    m.add_parents("t", "more")


def joined(m: Machine) -> None:
    """A function says when, and it fails for another task."""
    m.policies.joins = lambda _, states: S.FAILED not in states.values()
    m.submit_all("p", "q")
    m.submit("t", after=["p", "q"], join="asked")
    m.fail("p")
    m.end("q")
    m.rerun("p")
    m.submit("r")
    m.submit("u", after=["r"], join="asked")
    m.policies.broken.add("join")
    m.end("r")
    m.policies.broken.clear()


def added(join: str | int, on_failure: str, parent: str, m: Machine) -> None:
    """A task is to wait for one more, which has ended in some way."""
    m.submit_all("done", "bad", "going")
    m.end("done")
    m.fail("bad")
    m.submit("t", after=["going"], join=join, on_failure=on_failure)
    m.submit("below", after=["t"], join=join, on_failure=on_failure)
    m.submit("wait", after=["t"], join="finished", wait=(None, 0, True))
    m.add_parents("t", parent)


def elastic() -> Machine:
    """What is elastic takes more as another ends; and then the allocator fails."""
    m = Plain(pools=Resources(cpu=16), policies=Sharing())
    m.submit("u", resources=Elastic({"cpu": 16}, min={"cpu": 4}))
    m.submit("t", resources=Elastic({"cpu": 16}, min={"cpu": 4}))
    m.checkpoint("u")
    m.checkpoint("t")
    m.end("u")
    m.settle()
    m.policies.broken.add("allocator")
    m.checkpoint("t")
    m.policies.broken.clear()
    return m


def served() -> Machine:
    """An attempt that has waited for another gets its slot at the next step."""
    m = Plain(concurrency=1)
    m.submit_all("t", "u")
    m.kernel.yield_slot(m.row("t"), 1, m.now)
    m.settle()
    m.kernel.reclaim_slot(m.row("t"), 1, m.now)
    m.end("u")
    return m


def leaks(m: Machine, then: tuple[Story, ...] = (), **spec: Any) -> None:
    """What would not stop ends while another attempt is under way, or is over."""
    m.policies.delays["t"] = [0, 5 * SEC]
    m.submit("t", timeout_ns=SEC, **spec)
    m.after(11 * SEC + SEC // 2)
    for story in then:
        story(m)
    leak = m.kernel.leaked["t", 1]
    m.kernel.end_attempt(leak.row, 1, "completed", m.now)


def put_aside(m: Machine) -> None:
    """What it waits for fails meanwhile, and dates go by."""
    m.submit_all("p", "q")
    m.submit("t", after=["p"])
    m.suspend("t")
    m.add_parents("t", "q")
    m.fail("p")
    m.resume("t")
    m.cancel("t")
    m.submit("more")
    m.add_parents("t", "more")
    m.submit("u", not_before=m.now + 5 * SEC, deadline=m.now + 2 * SEC)
    m.suspend("u")
    m.policies.delays["v"] = [5 * SEC]
    m.submit("v", deadline=m.now + 2 * SEC)
    m.fail("v")
    m.suspend("v")
    m.resume("v")
    m.submit("w")
    m.suspend("w")
    m.resume("w")
    m.after(3 * SEC)


def touch(m: Machine) -> None:
    """What leaves t where it is."""
    m.kernel.refuse_answer(m.row("t"), "bob", "no", "it is no question", m.now)
    m.prioritise("t", 2)
    m.change("t", timeout_ns=9 * SEC)


def suspended_by_the_way(m: Machine) -> None:
    """It is to be suspended, and its timeout is over before it has come to that."""
    m.policies.delays["t"] = [0]
    m.submit("t", timeout_ns=SEC)
    m.suspend("t")
    m.after(2 * SEC)
    m.end("t")
    m.submit("u")
    m.do(EndAttempt("u", 1, "completed"))


def by_the_driver(m: Machine) -> None:
    """What the driver says of itself."""
    kernel = m.kernel
    kernel.note_fault(None, PolicyFault("validator", GONE), m.now)
    kernel.own_event(AlertRaised, m.now, *[""] * (len(AlertRaised.__match_args__) - 2))
    kernel.limit(3)
    kernel.keep_finished()
    kernel.remember_ended({"old": S.FAILED, "older": S.FAILED})
    kernel.forget_tasks(["older"], ["its run"])
    kernel.forget_ended()
    m.submit("t")
    m.end("t")
    kernel.evict()
    m.submit("gone")
    m.end("gone")
    kernel.evict_rows([m.row("gone")])
    for worker in kernel.workers.values():
        kernel.restore_breakers(worker, worker.breakers_out())
    m.allocate("all", cpu=2)
    claim = Claim("more", "ann", Resources(cpu=1).units)
    kernel.claimed(claim)
    kernel.await_allocation(claim)
    kernel.withdraw(claim)
    m.submit("u")
    kernel.yield_slot(m.row("u"), 1, m.now)
    kernel.forgo_slot(m.row("u"))
    kernel.stop_attempt(m.row("u"))
    kernel.pause()
    kernel.unpause()
    m.settle()


def failed_driver(m: Machine) -> None:
    m.kernel.fail_everything([], "a disk is gone", m.now)


def on_t(*verbs: str) -> tuple[Story, ...]:
    return tuple(ACTIONS[verb] for verb in verbs)


def ask(m: Machine) -> None:
    m.policies.chosen["t"] = ASK


ONCE = Again(retry=True, reason="once more")
LATER = Again(retry=True, delay_ns=SEC, reason="later")
ASK = Again(retry=False, ask="what now?")
OTHER = Again(retry=True, spec=Spec("call", timeout_ns=9 * SEC))
ANSWERS = (None, ONCE, LATER, ASK, OTHER)
#: What neither the stories of events nor the dice come to.
OWN: tuple[Story, ...] = (
    *(
        allowed,
        left,
        anew,
        silent,
        forgotten,
        missed,
        otherwise,
        routed_nowhere,
        denied,
    ),
    *(by_the_driver, failed_driver, put_aside, suspended_by_the_way, joined),
    *(recalled, recalled_below, partial(recalled, suspended=True), leaks),
    partial(leaks, requires=("x",)),
    partial(leaks, then=on_t("completed")),
    partial(leaks, then=on_t("failed")),
    partial(leaks, then=on_t("cancel", "completed")),
    partial(leaks, then=on_t("suspend", "stopped")),
    partial(leaks, then=(ask, *on_t("failed"))),
    *(partial(breaker, how) for how in ("completed", "failed")),
    *(partial(answered, asked, verdict) for verdict in ("", "fail", "retry")),
    *(partial(chosen, "reported", answer) for answer in ANSWERS),
    *(partial(batch, "any", how) for how in ("skip", "fail")),
    *(partial(unknown_end, answer) for answer in ANSWERS),
    *(partial(given_up, how) for how in ("cancel", "deadline")),
    *(partial(wait_suspended, *on_t(verb)) for verb in ("cancel", "resume")),
    partial(wait_suspended, lambda m: m.emit("go")),
    *(partial(added, "any", how, "bad") for how in ("block", "skip", "fail", "run")),
)
FAILURES = ("block", "skip", "fail", "run")
JOINS: tuple[str | int, ...] = ("all", "any", "finished", 2)
#: The same in all their kinds.
MORE: tuple[Story, ...] = (
    partial(recalled, late=SOON),
    partial(leaks, then=(lambda m: m.policies.delays.clear(), *on_t("failed"))),
    *(partial(breaker, "lost", late=late) for late in (False, True)),
    *(partial(breaker, how, late=True) for how in ("completed", "failed")),
    *(partial(breaker, how, slow=True) for how in ("completed", "failed")),
    *(
        partial(answered, *each)
        for each in product(
            (question, asked, blocked, undecided), ("", "complete", "fail", "retry")
        )
    ),
    *(
        partial(chosen, how, answer, **dict.fromkeys(also, True))
        for how, answer, also in product(
            ("reported", "completed", "ended", "given up", "in time"),
            ANSWERS,
            ((), ("suspending",), ("broken",)),
        )
    ),
    *(partial(batch, *each) for each in product(JOINS, FAILURES)),
    partial(unknown_end, None, broken=True),
    *(partial(added, *each) for each in product(JOINS, FAILURES, ("done", "bad"))),
)
