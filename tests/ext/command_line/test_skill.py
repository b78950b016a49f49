"""What `taskorch skill` prints, as an agent reads it, and that it names what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.ext.command_line.tools import forget, taskorch

from taskorch.model import OPTIONS


@pytest.fixture(name="skill")
def fixture_skill(capsys):
    """The text, as it is printed."""
    code, out, err = taskorch(capsys, "skill")
    assert (code, err) == (0, "")
    return out


def test_a_model_pays_little_for_it(skill):
    """ASCII is the same in every terminal and in every file."""
    assert skill.isascii()
    assert len(skill.splitlines()) < 250
    assert len(skill.split()) < 2_000


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


def test_it_names_every_option_and_no_other(skill):
    line = re.search(r"^- Options: (.*?)\.", skill, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line[1])) == set(OPTIONS)
