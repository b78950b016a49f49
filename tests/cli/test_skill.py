"""What `taskorch skill` prints, as an agent reads it, and that it names what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.cli.tools import forget, taskorch

import taskorch as package
from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.cli import COMMANDS
from taskorch.model import OPTIONS


@pytest.fixture(name="skill")
def fixture_skill(capsys):
    """The text, as it is printed."""
    code, out, err = taskorch(capsys, "skill")
    assert (code, err) == (0, "")
    return out


def test_it_has_the_form_of_a_skill(skill):
    """A name and a description, by which an agent knows when to read the rest."""
    _, head, text = skill.split("---\n", 2)
    name, description = head.splitlines()
    assert re.fullmatch(r"name: [a-z0-9-]{1,64}", name)
    assert re.fullmatch(r"description: [^:#]{1,1024}", description)
    assert text.startswith("\n# ")


def test_a_model_pays_little_for_it(skill):
    """ASCII is the same in every terminal and in every file."""
    assert skill.isascii()
    assert len(skill.splitlines()) < 250
    assert len(skill.split()) < 2_000


def test_the_commands_and_options_that_it_names_are_there(skill, capsys):
    commands = re.findall(r"(?<=[`\n])taskorch ([a-z]+)([^`\n#]*)", skill)
    assert {"run", "simulate", "explain", "inspect"} <= {name for name, _ in commands}
    for name, rest in commands:
        assert name in COMMANDS
        _, out, _ = taskorch(capsys, name, "--help")
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= set(
            re.findall(r"--[a-z-]+", out)
        )


def test_what_it_says_to_check_can_be_checked(skill, capsys, tmp_path, monkeypatch):
    """With the flow that it begins with, as flow.py."""
    monkeypatch.chdir(tmp_path)
    flow = re.search(r"^```python\n(.*?)^```", skill, re.DOTALL | re.MULTILINE)
    Path("flow.py").write_text(flow[1])
    (block,) = re.findall(r"^```sh\n(.*?)^```", skill, re.DOTALL | re.MULTILINE)
    outputs = []
    for line in block.splitlines():
        _, *words = shlex.split(line, comments=True)
        forget(tmp_path)
        code, out, err = taskorch(capsys, *words)
        assert (code, err) == (0, ""), line
        outputs.append(out)
    simulated, _, again, tasks = outputs
    assert simulated.startswith("3 tasks would take 2 s")
    assert "3 of 3 tasks had completed before" in again
    assert tasks.count("completed") == 3


def test_what_it_says_to_import_is_there(skill):
    (names,) = re.findall(r"`from taskorch import ([^`]+)`", skill)
    for name in names.replace("\n", " ").split(", "):
        assert getattr(package, name)
    prose = re.sub(r"^```.*?^```", "", skill, flags=re.DOTALL | re.MULTILINE)
    used = set(re.findall(r"\b([A-Z][a-z]\w+)\(", prose))
    # Of these it says the module.
    assert used - set(re.findall(r"\w+", names)) == {"Quota", "JournalReader"}


def test_it_names_every_option_and_no_other(skill):
    line = re.search(r"^- Options: (.*?)\.", skill, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line[1])) == set(OPTIONS)


def test_the_names_that_it_names_are_there(skill):
    things = {
        "orch": TaskOrchestrator(),
        "wf": Workflow("w"),
        "phase": Workflow("w").phase("p"),
        "Task": Task,
    }
    names = re.findall(r"\b(orch|wf|phase|Task)((?:\.[a-z_]+)+)\b", skill)
    assert len(set(names)) > 20
    for thing, path in set(names):
        value = things[thing]
        for part in path[1:].split("."):
            value = getattr(value, part)
