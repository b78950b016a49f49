"""A setting is added to their description, and nothing else is written for it."""

from __future__ import annotations

import pytest
from tests.house.tools.extensions import SOURCE, told_with

import taskorch
from taskorch.api._settings.fields import (
    SETTINGS,
    SIMULATED,
    SettingsOptions,
    SimulatedSettings,
    signature_of,
)

FIELD = "    concurrency: int = attrs.field(\n"
ADDED = """\
    colours: int = attrs.field(
        default=3, metadata=_setting(_count(2), simulated=True)
    )
"""

STORY = """
import os
from inspect import signature
from pathlib import Path

import pytest

from taskorch import InvalidTaskError, TaskExecutor, TaskOrchestrator
from taskorch.api._settings.configuration import read_configuration
from taskorch.ext.command_line import main
from taskorch.testing import Simulation

for cls in (TaskOrchestrator, TaskExecutor, Simulation):
    assert signature(cls).parameters["colours"].default == 3, cls
    cls(colours=2)
    with pytest.raises(InvalidTaskError, match="colours is an integer of 2 or more"):
        cls(colours=1)
    with pytest.raises(TypeError, match=f"{cls.__name__} has no .* mean 'colours'"):
        cls(coluors=2)

Path("taskorch.toml").write_text("colours = 4")
TaskOrchestrator.from_config()
assert read_configuration(environ={}).settings["colours"].value == 4
os.environ["TASKORCH_COLOURS"] = "5"
assert read_configuration().settings["colours"].value == 5
assert main(["doctor"]) == 0
os.environ["TASKORCH_COLOURS"] = "1"
with pytest.raises(InvalidTaskError, match="TASKORCH_COLOURS: colours is a whole num"):
    TaskOrchestrator.from_config()
print("all of it")
"""


def test_a_setting_is_added_at_its_field_and_is_everywhere(tmp_path):
    place = "api/_settings/fields.py"
    text = (SOURCE / place).read_text()
    assert text.count(FIELD) == 1
    done = told_with({place: text.replace(FIELD, ADDED + FIELD)}, STORY, tmp_path)
    assert done.stdout.endswith("all of it\n"), done.stdout + done.stderr
    assert "colours: 5 (from TASKORCH_COLOURS)" in done.stdout


@pytest.mark.parametrize(
    ("settings", "typed"),
    [(SETTINGS, SettingsOptions), (SIMULATED, SimulatedSettings)],
)
def test_checkers_are_told_of_the_same_settings(settings, typed):
    assert sorted(settings) == sorted(typed.__annotations__)
    for name, setting in settings.items():
        text = getattr(typed.__annotations__[name], "__forward_arg__", None)
        assert text.endswith("| None") is setting.none, name


def test_a_class_with_arguments_of_its_own_has_its_own_signature():
    class Named(taskorch.TaskOrchestrator):
        def __init__(self, name, **others):
            super().__init__(**others)

    class Same(taskorch.TaskOrchestrator):
        pass

    assert list(signature_of(Named).parameters) == ["name", "others"]
    assert list(signature_of(Same).parameters) == list(SETTINGS)
