"""
Settings from a file and from the environment: `TaskOrchestrator.from_config`.

What is refused is named with its file and line, or its variable, and never shown: a
secret may stand in the wrong place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from taskorch import InvalidTaskError, TaskOrchestrator
from taskorch.api._settings.configuration import SETTINGS, _lines, read_configuration

SECRET = "hunter2-of-the-vault"

FILE = """\
# What holds everywhere.
journal = "state/runs.db"
concurrency = 4
grace = 2.5

[resources]
cpu = 2
gpu = 1

[profiles.ci]
concurrency = 2
journal = "none"

[profiles.large]
concurrency = 64
resources = { cpu = 32 }
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder without a file of settings, and no variable."""
    for name in os.environ:
        if name.startswith("TASKORCH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Told(TaskOrchestrator):
    """An orchestrator that remembers what it was made of."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.arguments = arguments


def write(text, name="taskorch.toml"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


def values(**environ):
    found = read_configuration(environ=environ).settings
    return {name: setting.value for name, setting in found.items()}


def refused(**environ):
    with pytest.raises(InvalidTaskError) as caught:
        read_configuration(environ=environ)
    assert SECRET not in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


# -- where settings come from ---------------------------------------------------------


def test_the_nearest_file_holds(here, monkeypatch):
    write("[tool.taskorch]\nconcurrency = 1\n", "pyproject.toml")
    write("[tool.other]\nconcurrency = 2\n", "inner/pyproject.toml")
    (here / "inner" / "leaf").mkdir()
    monkeypatch.chdir(here / "inner" / "leaf")
    found = read_configuration()
    assert found.settings["concurrency"].value == 1
    assert found.settings["concurrency"].source == f"{here / 'pyproject.toml'}:2"
    write("concurrency = 3\n", "../taskorch.toml")
    write("[tool.taskorch]\nconcurrency = 4\n", "../pyproject.toml")
    assert values() == {"concurrency": 3}
    # Named, it need not be near.
    assert values(TASKORCH_CONFIG=str(here / "pyproject.toml")) == {"concurrency": 1}
    assert values(TASKORCH_CONFIG=os.devnull) == {}
    assert Told.from_config("../pyproject.toml").arguments == {"concurrency": 4}


def test_each_argument_that_is_no_part_is_a_setting():
    parts = {
        "registry",
        "router",
        "validator",
        "state_machine",
        "queue",
        "retry_handler",
        "allocator",
        "tracer_provider",
        "meter_provider",
        "extensions",
    }
    assert SETTINGS.keys() | parts == signature(TaskOrchestrator).parameters.keys()


def test_how_a_file_is_kept_means_nothing_in_memory():
    write('journal = "runs.db"\ndurability = "process"\nkeep_logs_mb = 3\n')
    assert Told.from_config(journal=None).arguments == {"journal": None}
    assert Told.from_config().arguments["durability"] == "process"
    with pytest.raises(InvalidTaskError, match="given by its path"):
        TaskOrchestrator.from_config(journal=None, durability="process")


def test_all_that_is_wrong_is_said_at_once():
    write("concurency = 3\ngrace = -1\n[profiles.ci]\ndurability = 7\nseeds = 1\n")
    text = refused(
        TASKORCH_PROFILE="cy", TASKORCH_STOP_TIMEOUT="soon", TASKORCH_SED="1"
    )
    for said in (
        "taskorch.toml:1: there is no setting 'concurency' (did you mean concurrency?)",
        "taskorch.toml:2: grace is",
        "taskorch.toml:4: durability is",
        "taskorch.toml:5: there is no setting 'seeds' (did you mean seed?)",
        "taskorch.toml has no profile 'cy' (there are ci)",
        "TASKORCH_STOP_TIMEOUT: stop_timeout is",
        "there is no setting TASKORCH_SED (in the environment) (did you mean TASKORCH",
    ):
        assert said in text, text


def test_an_argument_that_there_is_not_is_named():
    with pytest.raises(TypeError, match="did you mean 'concurrency'"):
        TaskOrchestrator.from_config(concurency=3)


def test_the_import_reads_no_toml():
    code = (
        "import sys; from taskorch import TaskOrchestrator; TaskOrchestrator(); "
        "print([m for m in ('tomllib', 'taskorch.api._settings.configuration') if m in sys.modules])"
    )
    # What measures the coverage of our own children reads some, too.
    env = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert done.stdout.strip() == "[]"


# -- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nconcurency = 4", "taskorch.toml:2: there is no setting 'concurency' (did you mean concurrency?)"),
        ("zzz = 4", "taskorch.toml:1: there is no setting 'zzz' (there are journal, "),
        ("profile = 4", "did you mean profiles?"),
        (f"password = '{SECRET}'", "taskorch.toml:1: there is no setting 'password'"),
        (f"concurrency = '{SECRET}'", "taskorch.toml:1: concurrency is a whole number of 1 or more, not this text (as in concurrency = 10)"),
        ("concurrency = 0", "not 0 "),
        ("concurrency = true", "not a truth value"),
        ("concurrency = 1.5", "not 1.5"),
        ("keep_finished = -1", "keep_finished is a whole number of 0 or more"),
        ("grace = nan", "grace is a number of seconds, 0 or more, not nan "),
        ("grace = inf", "not so large a number"),
        ("grace = 1e300", "not so large a number"),
        ("grace = 2020-01-01", "not a time"),
        ("grace = [1]", "not a list"),
        ("grace = 'none'", "not this text"),
        ("monitor_interval = 0", "more than 0, not 0"),
        (f"durability = '{SECRET}'", 'durability is "power" or "process", not this text'),
        ("journal = ''", "journal is the path of a file, or `postgresql://…`, not an empty text"),
        ("journal = 7", "journal is the path of a file, or `postgresql://…`, not 7"),
        ('journal = "a\\u0000b"', "not this text"),
        ("resources = 4", "resources is a table of names and amounts, each 0 or more, not 4"),
        (f"resources.cpu = '{SECRET}'", "taskorch.toml:1: resources is a table of names"),
        ("[resources]\ncpu = -1", "not this table"),
        ("executors.process = 0", "how many worker processes"),
        ("executors.cpu = 2", "how many worker processes"),
        ("rerun_failed = 1", "rerun_failed is true or false, not 1"),
        ("seed = 1.0", "seed is a whole number, not 1"),
        ("profiles = 1", "taskorch.toml:1: profiles is a table of tables (write [profiles.ci])"),
        ("[profiles]\nci = 1", "taskorch.toml:2: a profile is a table (write [profiles.ci])"),
        ("[profiles.ci]\n\ngraec = 1", "taskorch.toml:3: there is no setting 'graec' (did you mean grace?)"),
        ("grace = 1\ngrace = 2", "taskorch.toml is no TOML: Cannot overwrite a value"),
        (f"grace = {'[' * 5000}", "taskorch.toml is no TOML: "),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said_with_its_line(text, said):
    write(text)
    assert said in refused()


def test_what_is_wrong_in_a_pyproject():
    write("[tool.taskorch]\ngraec = 1", "pyproject.toml")
    assert "pyproject.toml:2: there is no setting 'graec'" in refused()
    write("[tool]\ntaskorch = 7", "pyproject.toml")
    assert "pyproject.toml:2: tool.taskorch is no table" in refused()
    write("[tool.taskorch.profiles]\nci = 7", "pyproject.toml")
    assert "pyproject.toml:2: a profile is a table (write [tool.taskorch.p" in refused()
    write("[tool", "pyproject.toml")
    assert "pyproject.toml is no TOML" in refused()


def test_what_is_no_text(here):
    (here / "taskorch.toml").write_bytes(b"grace = '\xff'")
    assert "taskorch.toml is no TOML" in refused()
    (here / "taskorch.toml").write_bytes(b"grace = 1\r\n# \r\ngraec = 1\r\n")
    assert "taskorch.toml:3: there is no setting" in refused()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("CONCURENCY", "4", "there is no setting TASKORCH_CONCURENCY (in the environment) (did you mean TASKORCH_CONCURRENCY?)"),
        ("PROFIL", "ci", "did you mean TASKORCH_PROFILE?"),
        ("PASSWORD", SECRET, "there is no setting TASKORCH_PASSWORD"),
        ("CONCURRENCY", SECRET, "TASKORCH_CONCURRENCY: concurrency is a whole number of 1 or more, not this text (as in TASKORCH_CONCURRENCY=10)"),
        ("CONCURRENCY", "4\nx = 5", "not this text"),
        ("GRACE", "soon", "as in TASKORCH_GRACE=30"),
        ("GRACE", "[" * 5000, "not this text"),
        ("RESOURCES", "cpu", "as in TASKORCH_RESOURCES=cpu=4,memory_mb=2048"),
        ("RESOURCES", f"cpu={SECRET}", "TASKORCH_RESOURCES: resources is a table"),
        ("RERUN_FAILED", "maybe", "rerun_failed is true or false"),
        ("DURABILITY", "Power", "as in TASKORCH_DURABILITY=power"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_variable_is_said_with_its_name(name, text, said):
    assert said in refused(**{f"TASKORCH_{name}": text})


def test_a_profile_that_there_is_not():
    assert "there is no file that has any" in refused(TASKORCH_PROFILE="ci")
    write(FILE)
    assert "no profile 'cii' (did you mean ci?)" in refused(TASKORCH_PROFILE="cii")
    write("")
    assert "no profile 'ci' (there are none)" in refused(TASKORCH_PROFILE="ci")


def test_a_file_that_is_not_there_is_the_systems_error():
    with pytest.raises(FileNotFoundError):
        TaskOrchestrator.from_config("none.toml")


# -- lines ----------------------------------------------------------------------------


def test_a_line_is_the_one_where_the_statement_begins():
    text = '''\
# a = 1
a = """
b = 1
[c]
"""

[x . "y z"]
list = [
  "b = 1", # ]
  { c = 1 },
]
p.q.r = { s = 1 }
[[many]]
k = 1
[[many]]
l = 1
'''
    found = _lines(text)
    assert found[("a",)] == 2
    assert ("b",) not in found
    assert ("c",) not in found
    assert found[("x", "y z")] == 7
    assert found[("x", "y z", "list")] == 8
    assert found[("x", "y z", "p", "q", "r", "s")] == 12
    assert found[("many", "k")] == 14
    assert found[("many", "l")] == 16


#: A statement and whether it has several lines, by how its value is written.
PLAIN = st.sampled_from(
    ["1", '"]"', "[]", "{}", "'#'", "[\n1,\n2\n]", '"""\n\nk = 1"""']
)


@given(st.lists(st.tuples(PLAIN, st.integers(0, 2), st.booleans()), max_size=8))
def test_each_key_has_the_line_where_it_was_written(parts):
    text, expected, at = "", {}, ()
    for number, (value, blank, is_table) in enumerate(parts):
        text += "\n" * blank
        if is_table:
            at = (f"t{number}",)
            expected[at] = text.count("\n") + 1
            text += f"[t{number}]  # k = 1\n"
        expected[*at, f"k{number}"] = text.count("\n") + 1
        text += f"k{number} = {value}\n"
    assert _lines(text) == expected
