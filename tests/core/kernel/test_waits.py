"""Waits for what comes from outside: events, time, and a person's word."""

from tests.core.kernel.harness import SEC, S, Twin

FIVE = ("go", 5 * SEC, False)


# -- many --------------------------------------------------------------------------


def test_a_rerun_that_ends_at_once():
    """What depended on the first run goes on, or follows its own rule."""
    machine = Twin()
    machine.submit("t", wait=FIVE)
    machine.submit("u", after=["t"])
    machine.submit("a")
    machine.submit("v", after=["t", "a"], join="any", on_failure="fail")
    machine.after(5 * SEC)
    machine.emit("go", keep=SEC)
    machine.rerun("t")
    assert machine.states("t~2", "u", "v") == [S.COMPLETED, S.RUNNING, S.RUNNING]
    machine.fail("a")
    machine.submit("b", after=["a"], on_failure="skip")
    machine.submit("c")
    machine.submit("w", after=["b", "c"], join="any", on_failure="fail")
    machine.rerun("b")
    assert machine.states("b~2", "w") == [S.CANCELLED, S.PENDING]
    machine.fail("c")
    assert machine.error("w")[2] == "dependency"
