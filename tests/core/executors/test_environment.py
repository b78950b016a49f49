"""What a program finds in its environment: whose word is the last."""

from taskorch.core.executors._programs._spawn import environment
from taskorch.model import Program


def test_what_is_said_of_a_variable_last_holds():
    """Ours below what the program is given, and that below what we must say."""
    program = Program(
        ("true",), env={"B": "program", "C": "program"}, inherit_env={"A", "B", "C"}
    )
    ours = {"A": "ours", "B": "ours", "C": "ours", "SECRET": "s", "D": "ours"}
    env, withheld = environment(program, ours, {"C": "extra", "D": "extra"})
    assert env == {"A": "ours", "B": "program", "C": "extra", "D": "extra"}
    assert withheld == ("SECRET",)


class _Changing(dict[str, str]):
    """An environment from which another thread takes a variable while it is read."""

    def __init__(self, **variables: str) -> None:
        super().__init__(variables)
        self.reads = 0

    def keys(self):
        names = list(super().keys())
        self.reads += 1
        if self.reads == 1:
            del self["GOING"]
        return names

    def __iter__(self):
        return iter(self.keys())


def test_our_variables_may_change_while_they_are_read():
    ours = _Changing(GOING="1", STAYS="2")
    env, withheld = environment(Program(("true",), inherit_env=True), ours, {})
    assert ours.reads > 1
    assert (env, withheld) == ({"STAYS": "2"}, ())
