"""Whoever lacks a library of an extra is told which extra brings it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from taskorch.ext.command_line import EXTRAS

ROOT = Path(__file__).parents[3]
PATIENCE = 60
WITH = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
#: The modules of libraries that have another name.
MODULES = {
    "backports.zstd": "backports",
    "common-expression-language": "cel",
    "nvidia-ml-py": "pynvml",
    "prometheus-client": "prometheus_client",
    "pyyaml": "yaml",
}
BROUGHT = {
    (extra, MODULES.get(name, name))
    for extra, needs in WITH.items()
    for name in (re.split(r"[\[>;]", need)[0] for need in needs)
    if name != "taskorch"
}
ORCHESTRATOR = "from taskorch import TaskOrchestrator as Orchestrator\n"
SERVICE = "import taskorch.ext.service"
#: What needs a library, and is called by a program of the user's.
USES = {
    "apprise": f"{ORCHESTRATOR}Orchestrator().notify('json://127.0.0.1')",
    "cloudpickle": f"{ORCHESTRATOR}"
    "with Orchestrator() as orch:\n"
    "    orch.options(executor='process').submit(lambda: 1)",
    "cronsim": f"{ORCHESTRATOR}"
    "with Orchestrator() as orch:\n"
    "    orch.schedules.add('night', '0 3 * * *', print)",
    "hypothesis": "import taskorch.testing.strategies",
    "jsonschema": "from taskorch import JsonSchemaValidator\n"
    "JsonSchemaValidator({'a': {'type': 'object'}})",
    "obstore": "from taskorch.ext.large_values import LargeValues\nLargeValues('values')",
    "prometheus_client": SERVICE,
    "psycopg": f"{ORCHESTRATOR}Orchestrator(journal='postgresql://127.0.0.1/x').start()",
    "starlette": SERVICE,
    "uvicorn": SERVICE,
    "yaml": "from taskorch import Workflow\nWorkflow.from_yaml('tasks: {}')",
}


def test_commands_know_of_each_library_an_extra_that_brings_it():
    assert {module for _, module in BROUGHT} == EXTRAS.keys()
    assert {(extra, module) for module, extra in EXTRAS.items()} <= BROUGHT


#: Each use is made by a child that has imported what all need.
LACKING = """
import os, sys, taskorch
taskorch.TaskOrchestrator
for module, use in USES.items():
    print(f"== {module}", file=sys.stderr, flush=True)
    if not os.fork():
        sys.modules[module] = None
        exec(use)
        os._exit(0)
    os.wait()
"""


def test_a_program_that_lacks_a_library_is_told_the_extra():
    done = subprocess.run(
        [sys.executable, "-c", f"USES = {USES!r}{LACKING}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    _, *told = done.stderr.split("== ")
    lacked = {module: text for module, _, text in (one.partition("\n") for one in told)}
    assert lacked.keys() == USES.keys()
    for module, text in lacked.items():
        extras = re.findall(r"pip install 'taskorch\[(\w+)\]'", text)
        assert extras, text
        assert {(extra, module) for extra in extras} <= BROUGHT
