"""What a program finds in its environment: whose word is the last."""

from taskorch.executors._programs._spawn import environment
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
