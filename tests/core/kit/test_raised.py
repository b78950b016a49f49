"""The line of the user's code in which an error was raised."""

import json

import pytest

from taskorch.errors import TaskFailedError
from taskorch.kit.raised import place_of
from taskorch.model import Missing


def fail(text):
    return json.loads(text)


def raised(text="{"):
    with pytest.raises(ValueError, match="Expecting") as got:
        fail(text)
    return got.value


def test_it_is_the_latest_line_that_is_of_no_installed_package():
    error = raised()
    assert place_of(error) == f"{__file__}:13 in fail"
    assert place_of(ExceptionGroup("all", [error])) == f"{__file__}:13 in fail"
    wrapped = TaskFailedError("task t failed")
    wrapped.__cause__ = error
    assert place_of(wrapped) == f"{__file__}:13 in fail"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m:f", "m:f"),
        ("__main__:f", "__main__:f"),
        ("__main__@sub/a.py:f", "f of sub/a.py"),
        ("__main__@:f", "f of a session without a file"),
        ("other@a.py:f", "other@a.py:f"),
    ],
)
def test_what_is_gone_names_its_script(name, said):
    assert Missing(name).why == f"{said} cannot be imported any more"
    assert Missing(name).__qualname__ == "f"
