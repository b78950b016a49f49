"""Whoever waits for a peer says how long: read from the source, so none is left out."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.api.tools import Started

TESTS = Path(__file__).parents[2]
SOURCE = Path(__file__).parents[3] / "src" / "taskorch"
#: The only module of ours that makes connections of HTTP: each has a deadline.
OVER_HTTP = "kit/connections.py"
#: Modules that speak HTTP, each with timeouts of its own, or with none.
HTTP = {"urllib.request", "requests", "urllib3", "aiohttp", "httpx"}
#: Calls that make a connection without a deadline, whatever they are told.
ENDLESS = {"HTTPConnection", "HTTPSConnection"}
#: Calls that wait, the name of what says how long, and its place in the call.
BOUNDED = {
    "socket.create_connection": ("timeout", 1),
    "httpx2.AsyncClient": ("timeout", None),
    "socket.settimeout": ("value", 0),
}
#: The last words of all these, and of a deadline in steps.
WAITS = {"Timeout", *ENDLESS, *(name.rpartition(".")[2] for name in BOUNDED)}
#: Of these words, a file with a fault has one.
WORDS = re.compile(
    rf"(?:import|from) (?:{'|'.join(name.partition('.')[0] for name in HTTP)})\b(?!\.parse)"
    rf"|\b(?:{'|'.join(WAITS)})\("
)


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name != OVER_HTTP and WORDS.search(text := path.read_text("utf-8")):
            yield name, ast.parse(text)


def faults(tree):
    """What in a file may wait for a peer without an end: line, and words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imported(node) & HTTP:
                yield node.lineno, f"{name} is taken beside {OVER_HTTP}"
        elif isinstance(node, ast.Call) and (why := fault_of(node)):
            yield node.lineno, why


def imported(node):
    names = {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {node.module, *(f"{node.module}.{name}" for name in names)}
    return names


def fault_of(call):
    last = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if last not in WAITS:
        return ""
    text = ast.unparse(call.func)
    if last in ENDLESS:
        return f"{text} has no deadline: HttpConnection has one"
    if last == "Timeout" and any(is_none(each.value) for each in call.keywords):
        return f"{text} has a step without an end"
    for name, (keyword, place) in BOUNDED.items():
        if last == name.rpartition(".")[2] and (
            last != "AsyncClient" or text.startswith("httpx")
        ):
            said = [each.value for each in call.keywords if each.arg == keyword]
            said += [] if place is None else call.args[place : place + 1]
            if not said or is_none(said[0]):
                return f"{text} does not say how long"
    return ""


def is_none(node):
    return isinstance(node, ast.Constant) and node.value is None


def test_every_wait_for_a_peer_has_a_deadline():
    found = [(name, *fault) for name, tree in modules() for fault in faults(tree)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import urllib.request",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import requests",
        "http.client.HTTPConnection('h', timeout=3)",
        "socket.create_connection(('h', 1))",
        "socket.create_connection(('h', 1), timeout=None)",
        "sock.settimeout(None)",
        "httpx2.AsyncClient()",
        "httpx2.Timeout(3, read=None)",
    ],
)
def test_what_the_law_forbids_is_seen(text):
    assert WORDS.search(text)
    assert [*faults(ast.parse(text))]


def waited_for(tree):
    """Lines where a test gets a program for a block, which waits for it when the test fails."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            gets = [item.context_expr for item in node.items]
        else:
            gets = [node.value] if isinstance(node, ast.Return) else []
        for made in gets:
            if isinstance(made, ast.Call) and ast.unparse(made.func).endswith("Popen"):
                yield made.lineno


HANGS = """
import threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print("hangs", flush=True)
time.sleep(600)
"""


def test_a_program_ends_with_a_test_that_fails_beside_it(capfd):
    """And says where its threads stand, if it is one of Python."""
    pipe, words = subprocess.PIPE, [sys.executable, "-c", HANGS]
    program = Started(words, stdout=pipe, stderr=pipe)
    with pytest.raises(ZeroDivisionError), program:
        program.wait(1 / len(program.stdout.readline()[6:]))
    assert program.returncode == -signal.SIGABRT
    assert capfd.readouterr().err.count("(most recent call first)") == 2


def test_no_test_that_fails_waits_for_its_program():
    """It would hang, and say nothing of its failure but a limit."""
    assert [
        f"{path.relative_to(TESTS)}:{line}: take Started of api/tools.py"
        for path in TESTS.rglob("*.py")
        if path
        != TESTS / "house" / "postgres.py"  # whose server is ended by its fixture
        if "Popen(" in (text := path.read_text("utf-8"))
        for line in waited_for(ast.parse(text))
    ] == []


@pytest.mark.parametrize(
    "text", ["with (a, subprocess.Popen(b) as c):\n pass", "return Popen(a)"]
)
def test_a_program_that_is_waited_for_is_seen(text):
    assert [*waited_for(ast.parse(text))]
