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
    ("lines", "place"),
    [
        (['File "a.py", line 1, in <module>', "  b()"], "a.py:1 in <module>"),
        (
            [
                'File "a.py", line 1, in f',
                'File "/x/lib/python3.12/json/__init__.py", line 2, in loads',
                'File "/x/site-packages/b.py", line 3, in g',
                'File "<frozen importlib._bootstrap>", line 4, in h',
            ],
            "a.py:1 in f",
        ),
        (
            ['File "/x/site-packages/b.py", line 3, in g'],
            "/x/site-packages/b.py:3 in g",
        ),
        (["KeyError: 1"], ""),
    ],
)
def test_a_traceback_that_is_text_is_read(lines, place):
    text = "\n".join(f"  {line}" for line in lines)
    assert place_of(TaskFailedError("task t failed", traceback=text)) == place


def test_nobody_knows_where_what_was_never_raised_was():
    assert place_of(None) == place_of(ValueError()) == ""


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
