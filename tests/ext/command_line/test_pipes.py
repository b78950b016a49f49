"""What reads the output goes away; what an extra brings is not installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.ext.command_line import COMMANDS, EXTRAS

ROOT = Path(__file__).parents[3]
SECONDS = 60

#: Runs each line of its input as a command whose output nobody reads, in a process of
#: its own that is cheap: nothing is imported again. Says what it wrote besides. A module
#: that stands before it, and a |, cannot be imported there.
EACH = """
import os, shlex, sys
import taskorch.ext.command_line
taskorch.ext.command_line.whole_parser()
for line in sys.stdin.read().splitlines():
    errors, pipe = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(pipe[0])
        os.dup2(pipe[1], 1); os.dup2(errors[1], 2)
        os.close(pipe[1]); os.close(errors[0]); os.close(errors[1])
        *gone, words = line.split("|")
        sys.modules.update(dict.fromkeys(gone))
        sys.argv = ["taskorch", *shlex.split(words)]
        sys.stdout = open(1, "w", closefd=False, buffering=-1)
        sys.stderr = open(2, "w", closefd=False, buffering=1)
        try:
            code = taskorch.ext.command_line.main()
        except SystemExit as error:
            code = error.code
        sys.stdout.flush()
        os._exit(code or 0)
    os.close(pipe[0]); os.close(pipe[1]); os.close(errors[1])
    text = open(errors[0], errors="replace").read()
    _, status = os.waitpid(child, 0)
    print(repr((line, os.waitstatus_to_exitcode(status), text)), flush=True)
"""


def unread(*lines: str) -> list[tuple[str, int, str]]:
    """The exit code of each command, and what it says besides."""
    done = subprocess.run(
        [sys.executable, "-c", EACH],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        # There are twenty of them.
        timeout=150,
        check=True,
    )
    said = [eval(line) for line in done.stdout.splitlines()]
    assert len(said) == len(lines), done.stderr
    return said


def times(number: int) -> int:
    return number * 2


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pipes") / "runs.db"
    flow = Workflow("flow")
    flow.map(times, list(range(30)), id="many")
    with TaskOrchestrator(journal=path) as orch:
        orch.workflows.start(flow, id="night").result(SECONDS)
        orch.submit_task(Task.call(times, "x", id="alone"))
        orch.wait(SECONDS)
    return str(path)


def test_each_command_ends_in_silence(journal: str, tmp_path: Path) -> None:
    """What is asked for help, what looks, and what works: that goes on."""
    helps = ["--help", "--version", *(f"{name} --help" for name in COMMANDS)]
    looks = [
        *("inspect {}", "inspect {} --json", "runs {}", "runs {} show night"),
        *("runs {} list --json", "explain {} alone", "logs {} alone", "verify {}"),
        *("questions {}", "budgets {}", "skill", "completion bash", "doctor"),
    ]
    flow = tmp_path / "flow.py"
    flow.write_text(
        "from pathlib import Path\n"
        "from taskorch import Workflow\n"
        "w = Workflow('w')\n"
        "for n in range(9): w.task(Path(__file__).with_name(f'{n}.done').touch, id=f't{n}')\n",
        "utf-8",
    )
    works = [f"simulate {flow} --duration 1s", f"run {flow}"]
    ends = unread(*helps, *(each.format(journal) for each in looks), *works)
    assert [(line, text) for line, _, text in ends[: len(helps)] if text] == []
    assert [each for each in ends[len(helps) :] if each[1] not in (0, 1)] == []
    assert [each for each in ends if "Error" in each[2] or "roken" in each[2]] == []
    assert ends[-1][1:] == (0, "")
    assert len([*tmp_path.glob("*.done")]) == 9


def test_a_service_is_not_told_to_be_away(journal: str) -> None:
    with TaskOrchestrator(journal=journal) as orch, orch.serve(port=0) as server:
        line = f"runs {server.url}"
        done = subprocess.run(
            [sys.executable, "-c", EACH],
            input=line,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
            env={"TASKORCH_TOKEN": server.token or "", "PATH": ""},
        )
    assert "reached" not in done.stdout
    assert eval(done.stdout)[1:] == (1, "")


# -- what an extra brings --------------------------------------------------------------


def test_each_module_of_an_extra_is_known_by_it() -> None:
    """Enumerated from the project: a new one is missed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    modules: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            modules.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(module)
    unknown = []
    for extra, needs in extras.items():
        for need in needs:
            name = re.sub(r"[-_.]+", "-", re.split(r"[\[>=<;]", need)[0]).lower()
            public = {m for m in modules.get(name, ()) if not m.startswith("_")}
            if name != "taskorch" and public and not public & EXTRAS.keys():
                unknown.append((extra, name, public))
    assert unknown == []
    assert {*EXTRAS.values()} <= {*extras}


def test_a_missing_extra_is_named(journal: str, tmp_path: Path) -> None:
    flow, app = tmp_path / "flow.yaml", tmp_path / "app.py"
    flow.write_text("workflow: x\ntasks: {}\n", "utf-8")
    app.write_text(
        "from taskorch import TaskOrchestrator\norch = TaskOrchestrator()\n", "utf-8"
    )
    lines = [
        f"yaml|run {flow}",
        f"mcp|mcp {journal}",
        f"mcp|serve {app} --mcp --no-token --port 0",
        f"starlette|serve --journal {journal} --no-token --port 0",
        "psycopg|inspect postgresql://127.0.0.1:1/none",
    ]
    for line, code, said in unread(*lines):
        assert code != 0, line
        assert "pip install 'taskorch[" in said, line
        assert "Traceback" not in said, line
