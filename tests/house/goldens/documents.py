"""
What is said of documents that are wrong, of each kind that there is.

Each key of a good document gets wrong values, and is misspelt. All of that takes most of
a minute: a *few* are a quarter for each key, others for the next, and the texts of the
golden can be taken apart into what is said of each.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import yaml

from taskorch.api.workflows import Workflow
from taskorch.errors import TaskorchError
from taskorch.ext import suites as suite
from taskorch.ext.jobs import JobSystem
from taskorch.ext.planner import ExecutionPlan, TaskRequest
from taskorch.ext.recovery import RecoveryHandler
from taskorch.ext.schedules import read_definition
from taskorch.ext.task_files import Workspace

WRONG: Final = (None, True, -1, 10**13, "", "no such", [], [1], {"x": 1})
VALUES: Final = {json.dumps(value): value for value in WRONG}
_WAY: Final = re.compile("|".join(map(re.escape, [*VALUES, "misspelt"])))
_ENTRY: Final = re.compile(rf"(\S+) = ((?:(?:, )?(?:{_WAY.pattern}))+): (.*)")
#: What messages call values that they do not show.
_SHOWN: Final = {list: "a list", dict: "a mapping", type(None): "nothing"}


class Kind(NamedTuple):
    """
    A kind of document.

    Attributes:
        name: What it is called here.
        read: Reads one, which is a text.
        good: One that is well formed.
        others: Texts that are wrong in ways of their own.
    """

    name: str
    read: Callable[[str], object]
    good: Mapping[str, Any]
    others: tuple[str, ...] = ()


def documents(few: bool = False) -> str:
    """What is said of documents of all kinds."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in _kinds(Path(folder)):
            lines += _of_kind(kind, folder, few)
    return "\n".join(lines) + "\n"


def taken_apart(text: str) -> Iterator[tuple[str, str, str]]:
    """Of each of a *few*: the kind and the key, how it is wrong, and what is said."""
    kind = ""
    for line in text.splitlines():
        kind = line if line.startswith("== ") else kind
        match = _ENTRY.fullmatch(line)
        if match is None:
            yield kind, line, ""
            continue
        name, values, said = match.groups()
        for way in _WAY.findall(values):
            if way in _ways_of(name, few=True):
                yield f"{kind} {name}", way, said


def _ways_of(name: str, few: bool) -> list[str]:
    """In which ways a key is wrong: the values as JSON, or that it is misspelt."""
    apart = 4 if few else 1
    return [*VALUES, "misspelt"][crc32(name.encode()) % apart :: apart]


def _of_kind(kind: Kind, folder: str, few: bool) -> Iterator[str]:
    yield f"== {kind.name}"
    good = _said(kind, _text(kind.good), folder)
    if good:
        yield f"as it is: {good}"
    for path in _paths(kind.good, ()):
        name = ".".join(map(str, path))
        values: dict[str, list[str]] = {}
        for way in _ways_of(name, few):
            said = _said(kind, _text(_wrong(kind.good, path, way)), folder)
            if said == good:
                continue
            if way in VALUES:
                said = _without(said, VALUES[way])
            values.setdefault(said, []).append(way)
        for said, ways in values.items():
            yield f"{name} = {', '.join(ways)}: {said}"
    for text in kind.others:
        yield f"{text!r}: {_said(kind, text, folder)}"


def _without(said: str, value: object) -> str:
    """*said* without the *value*."""
    for shown in (repr(value), _SHOWN.get(type(value))):
        for before in ("not", "is no"):
            said = said.replace(f" {before} {shown}", f" {before} …")
        said = said.replace(f": {shown} is no ", ": … is no ")
    return said


def _said(kind: Kind, text: str, folder: str) -> str:
    """What is said of *text*: "" if nothing."""
    try:
        said = kind.read(text)
    except TaskorchError as error:
        said = f"{type(error).__name__}: {error}"
    except Exception as error:
        said = f"{type(error).__name__} of Python: {error}"
    if not isinstance(said, str):
        return ""
    said = said.replace(f"{folder}/", "").replace("\n", "\\n")
    said = re.sub(r" \(document_schema\(\).*", "", said)
    # Of a set, which of the two comes first is chance.
    said = re.sub(r"instances of '\w+' and '\w+'", "instances", said)
    return re.sub(r"function (\w+) at 0x\w+", r"\1", said)


def _text(document: object) -> str:
    return "\n".join(_lines(document, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    """*value* as YAML: what is wrong stands in one line, so that all places stay."""
    items: Any = []
    if not any(value is one for one in WRONG):
        if isinstance(value, Mapping):
            items = [(f"{json.dumps(name)}:", one) for name, one in value.items()]
        elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
            items = [("-", one) for one in value]
    for begin, one in items:
        inner = list(_lines(one, f"{indent}  "))
        if len(inner) == 1 and not inner[0].startswith(" "):
            yield f"{indent}{begin} {inner[0]}"
        else:
            yield f"{indent}{begin}"
            yield from inner
    if not items:
        yield json.dumps(value)


def _paths(value: object, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The paths of all that has a name in a document."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield (*path, name)
            yield from _paths(one, (*path, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            if isinstance(one, Mapping):
                yield from _paths(one, (*path, number))


def _wrong(document: Any, path: Sequence[Any], way: str) -> Any:
    """*document* with a wrong value at *path*, or a letter too few in its last name."""
    name, *inner = path
    if isinstance(document, list):
        changed = _wrong(document[name], inner, way)
        return [*document[:name], changed, *document[name + 1 :]]
    if inner:
        return {**document, name: _wrong(document[name], inner, way)}
    if way in VALUES:
        return {**document, name: VALUES[way]}
    misspelt = f"{name[:1]}{name[2:]}"
    entries = ((misspelt if k == name else k, v) for k, v in document.items())
    return {**dict(entries), "xyzzy": 1}


# -- kinds -----------------------------------------------------------------------------


def _kinds(folder: Path) -> Iterator[Kind]:
    def file(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def plain(text: str) -> Any:
        # What YAML makes of it as JSON has it.
        return yaml.safe_load(text)

    def workspace(text: str) -> str:
        file("ws/workspace.yaml", text)
        file("ws/tasks/one.md", "---\nagent: reviewer\n---\n")
        return "; ".join(map(str, Workspace(folder / "ws").lint()))

    def task_file(text: str) -> str:
        file("files/tasks/a/two.md", "---\noutputs: [data.json]\n---\n")
        file("files/tasks/b/one.md", f"---\n{text}---\n# One\n")
        file("files/workspace.yaml", "agents: {reviewer: {command: r}}\n")
        return "; ".join(map(str, Workspace(folder / "files").lint()))

    def job(text: str) -> object:
        jobs = JobSystem({"resource_pools": {"memory_mb_total": 1024}})
        jobs.objective("index")(lambda unit, job: None)
        with jobs.orchestrator():
            jobs.assign_job(plain(text))
        return None

    def suites(text: str) -> object:
        loaded = suite.load(file("suite.yaml", text))
        return "; ".join(map(": ".join, [*loaded.missing, *loaded.without_effect]))

    functions = {"double": _double, "enough": _double}
    yield Kind(
        "workflow",
        lambda text: Workflow.from_yaml(text, functions, programs=True),
        WORKFLOW,
        (
            *("", "[]", "1", "tasks: {a: {type: x}}\n---\ntasks: {}"),
            "tasks: {a: {type: x}, a: {type: x}}",
            "tasks: &x {a: {type: *x}}",
            "tasks: {a: {type: !!str x}, b: {program: [true}",
            "tasks: {a/b: {type: x}, '': {type: x}, c: {}}",
            "tasks: {a: {call: double, args: [{$result: b, x: 1}], kwargs: {n: {$result: c}}}}",
            "tasks: {a: {type: x, after: [b]}, b: {type: x, after: [a]}}",
            "tasks: {a: {gather: [b]}, b: {gather: [aa]}}",
            (
                "phases: {one: {gate: [{approval: {who: ada, quorm: 2}}, {file: x, call: y}, {}]}}\n"
                "tasks: {}"
            ),
        ),
    )
    yield Kind(
        "workflow without places",
        lambda text: Workflow.from_dict(plain(text), functions),
        {"tasks": {"a": {"program": ["true"]}, "b": {"call": "doubel"}}},
    )
    yield Kind(
        "schedule",
        lambda text: read_definition("nightly", plain(text), functions) and None,
        SCHEDULE,
        (
            *("[]", "when: 0 3 * * *", "task: {type: x}"),
            "{when: every 15m, task: {type: x}, workflow: {tasks: {}}}",
            "{when: every 15m, task: {type: x, id: a}}",
            "{when: every 15m, zone: Nowhere/X, task: {type: x}}",
            "{when: 61 * * * *, task: {typo: x}}",
            "{when: every 15m, start: '2030-01-02', end: '2030-01-01', task: {type: x}}",
        ),
    )
    yield Kind("request", lambda text: TaskRequest.from_dict(plain(text)), REQUEST)
    yield Kind(
        "plan",
        lambda text: ExecutionPlan.from_dict(plain(text), functions),
        PLAN,
    )
    yield Kind(
        "recovery",
        lambda text: RecoveryHandler.from_yaml(file("recovery.yaml", text)) and None,
        RECOVERY,
        (
            *("", "[]", "1", "recovery: {max_retries: 1, max_retries: 1}"),
            "failure_handling: {max_retries: 1}\nrecovery: {max_retries: 2}",
            "recovery: {matrix: {memory: {orchestrator: {grow: {cpu: 0}}}, no: {}}, classes: [1]}",
            "recovery: {matrix: {memory: {orchestrator: {grow: 1}}}}",
            "recovery: {matrix: {memory: {orchestrator: {shrink: 1}}}}",
            "recovery: {matrix: {memory: {orchestrator: {grow: {cpu: {most: 1}}}}}}",
            "recovery: {classes: [{name: memory}, {name: memory, text: '('}, {text: x}]}",
            "recovery: {classes: [{name: memory, exit_code: [x]}]}",
        ),
    )
    yield Kind(
        "suite",
        suites,
        SUITE,
        (
            *("", "[]", "1", "orchestrator: {a: 1}\norchestrator: []"),
            "orchestrator: {name: a}\n---\norchestrator: {name: b}",
            "alerts: {hot: off, high_failure_rate: off}",
            "alerts: {hot: {when: memory_usage > 1, until: memory_usage < 2}}",
            "alerts: {hot: {when: memory_usag > 1, wait: 1, for: 2}}",
            "alerts: {hot: {when: memory_usage > 1, action: reassign_tasks}}",
            "recovery: {matrix: {memory: {human: nevr, orchestrator: {grow: {disk: 2}}}}}",
            "recovery: {classes: [{name: memry, text: x}, {name: memory}]}",
            "recovery: {human_notification_webhook: 'http://127.0.0.1/x'}",
            "agent_pool: {min_agents: 3, max_agents: 2}\nagent_limits: {max_agents: 4}",
            "agent_pool: {scale_up_threshold: 0.2, scale_down_threshold: 0.3}",
            "templates: {a: {}, b: {pytest: [], command: [x]}, c: {pytest: ['{nam}']}}",
            "templates: {a: {command: ['x{arguments}'], results: x.txt, pythn: x}}",
            "budgets: {a: {}, b: {total: {}}, c: {total: {cpu: 1, t: 0, u: .nan, v: -1, w: x}}, d/e: 1}",
            "budgets: {a: {total: {t: 1}, parent: b}, c: {total: {t: 1}, parent: d}, d: {total: {t: 1}, parent: c}}",
            "budgets: {a: {total: {t: 1}}}\norchestrator: {budget: b}\nresource_allocation: {unit_tests: {t: 1, budget: c}, e: {tt: 1}}",
            (
                "budgets: {a: {total: {t: 1}}}\norchestrator: {task_definitions: {unit_tests: "
                "[{id: A, resources: {t: 1}}, {id: B, budget: a, resources: {u: 1, cpus: 1}}, {id: C, budget: b}]}}"
            ),
            "orchestrator: {task_definitions: {unit_tests: [{id: A, dependencies: [B, A]}, {id: A}]}}",
            "orchestrator: {task_definitions: {unit_tests: [{id: A, subtasks: [A, {name: x}, 1], shards: 2}]}}",
        ),
    )
    yield Kind(
        "workspace.yaml",
        workspace,
        WORKSPACE,
        (
            *("[]", "1", "title: a\n---\ntitle: b", "phases: {anaylsis: {limit: 1}}"),
            "folders: {tasks: x, workspace: x}\nagents: {a/b: {command: x}, c: {}}",
            'agent: "it\'s"',
            'agents: {c: {command: "it\'s"}, d: {command: []}}',
            "budgets: {a: {total: {agents: 1, t: 0}}, b: {total: {t: 1}, parent: c}}\nbudget: d\nphases: {x: {budget: e}}",
        ),
    )
    yield Kind(
        "task file",
        task_file,
        TASK_FILE,
        (
            *("[]\n", "1\n", "timeout: 90 minutes\n", "Depends-On: a/two\n"),
            "resources: {cpu: 1, cpus: 2, memory_gb: x}\n",
            "resources: {tokens: 1, memory_mbb: 1}\nbudget: release\n",
            "resources: {tokens: .nan, eur: x}\nbudget: 5\n",
            "deps: [a/two]\ncmd: x\nmax_attempts: 3\nwhatever: it is\n",
            "inputs: [a/two/data.json, a/two/data.json, /x, ../x, x/, 'a\\tb']\n",
            "dependencies: [a/tow, b/one]\nagent: reviewr\npriority: hihg\n",
        ),
    )
    yield Kind(
        "jobs",
        lambda text: JobSystem.from_yaml(file("jobs.yaml", text)) and None,
        JOBS,
        (
            *(
                "",
                "[]",
                (
                    "tadpole_execution: {multithreading: {default_threads_per_tadpole: 9,"
                    " max_threads_per_tadpole: 2}}"
                ),
            ),
            (
                "job_lifecycle: {states: [queued], state_transitions: {queued_to_running:"
                " {actions: [publish_start_event]}}}"
            ),
            "job_intake_pipeline: {payload_contract: {required_fields: [metadata]}}",
            "job_intake_pipeline: {api_endpoint: commands}",
            "resource_pools: {memory_mb_total: 1, allocation_algorithm: {min_chunk: {memory_mb: 2}}}",
        ),
    )
    yield Kind("job", job, JOB, ("[]", "job_id: a/b"))


def _double(n: int = 0) -> int:
    return 2 * n


WORKFLOW: Final = {
    "workflow": "tuesday",
    "schedule": {"when": "0 3 * * *", "zone": "UTC", "catch_up": "last"},
    "phases": {
        "one": {
            "max_parallel": 2,
            "gate": [
                {
                    "approval": {
                        "timeout": 60,
                        "who": ["ada"],
                        "quorum": 1,
                        "not_by": ["bob"],
                        "remind": 5,
                    }
                },
                {"file": "report.json"},
                {"call": "enough"},
            ],
            "gate_timeout": 10,
            "on_failure": "stop",
        }
    },
    "tasks": {
        "a": {
            "call": "double",
            "args": [1],
            "kwargs": {},
            "executor": "process",
            "phase": "one",
            "priority": 1,
            "resources": {"elastic": {"cpu": 2}, "min": {"cpu": 1}, "weight": 1},
            "retry": {"max_attempts": 3, "wait": "fixed", "base": 1},
            "timeout": 10,
            "cache": {"expires": 60, "version": "1", "ignore": ["n"], "key": "k"},
            "requires": ["python"],
            "metadata": {"x": 1},
            "not_before": 5,
            "deadline": "2099-01-31T12:00:00+00:00",
            "join": {"at_least": 1},
            "on_parent_failure": "block",
        },
        "b": {
            "program": ["true"],
            "env": {"A": "1"},
            "inherit_env": ["B"],
            "cwd": "/tmp",
            "stdin": "x",
            "check": False,
            "log": "x.log",
            "after": ["a"],
        },
        "c": {
            "question": "ship?",
            "options": ["yes", "no"],
            "no": "no",
            "who": ["ada"],
            "quorum": 1,
            "not_by": ["bob"],
            "asked_by": "bob",
            "due": 60,
            "default": "yes",
            "remind": 5,
            "details": {"x": 1},
        },
        "d": {"wait_for": "arrived", "timeout": 60, "default": 1},
        "e": {"map": "double", "over": {"$result": "a"}, "max_parallel": 2},
        "f": {"reduce": "double", "over": {"$result": "a"}, "start": 1},
        "g": {"gather": ["a", "b"]},
        "h": {"type": "index", "payload": {"x": 1}},
    },
}
SCHEDULE: Final = {
    "when": "0 3 * * *",
    "zone": "UTC",
    "catch_up": "last",
    "overlap": "skip",
    "jitter": 5,
    "start": "2030-01-01",
    "end": "2031-01-01",
    "paused": "for now",
    "task": {"call": "double", "priority": 1},
}
REQUEST: Final = {
    "id": "tuesday",
    "type": "ship",
    "description": "all of it",
    "requirements": ["python"],
    "constraints": [
        {"kind": "maxPeak", "resource": "cpu", "amount": 2},
        {"kind": "deadline", "seconds": 60},
    ],
    "priority": 1,
    "deadline": 60,
    "context": {"args": [1]},
}
PLAN: Final = {
    "format": 1,
    "id": "tuesday",
    "request": {"id": "tuesday", "type": "ship"},
    "tasks": [
        {
            "id": "a",
            "type": "x",
            "estimatedDuration": 1.0,
            "estimatedDurationP90": 2.0,
            "estimatedCost": 1.0,
        }
    ],
    "dependencies": [],
    "resourceRequirements": [{"resource": "cpu", "peak": 1.0, "total": 1.0}],
    "estimatedDuration": 1.0,
    "criticalPath": ["a"],
    "binding": "cpu",
    "explanation": [{"task": "a", "chosen": "b", "rejected": []}],
    "speeds": {"ada": 1.0},
    "workflow": {"tasks": {"a": {"type": "x"}}},
}
_FAILURES: Final = {
    "max_retries": 2,
    "retry_delay_seconds": 30,
    "escalation_threshold": 3,
    "timeout_grace_period": 60,
}
_MATRIX: Final = {
    "memory": {
        "agent": "reduce the dataset",
        "orchestrator": {
            "grow": {"memory_mb": {"times": 2, "most": 8192}, "timeout": 2}
        },
        "human": "persistent",
        "actions": ["Give it more"],
        "most_retries": 2,
    },
    "network": {"orchestrator": {"avoid": {"backoff": 2}}},
    "system": {"orchestrator": "reset"},
}
_CLASSES: Final = [
    {"name": "memory", "error": "OSError", "text": "no quota", "exit_code": [3]}
]
RECOVERY: Final = {
    "recovery": {
        **_FAILURES,
        "human_notification_webhook": "https://example.com/hook",
        "matrix": _MATRIX,
        "classes": _CLASSES,
    }
}
SUITE: Final = {
    "orchestrator": {
        "name": "suite",
        "version": "1.0",
        "log_level": "INFO",
        "api_port": 8080,
        "task_definitions": {
            "unit_tests": [
                {
                    "id": "A",
                    "name": "First",
                    "template": "a",
                    "resources": {
                        "memory_mb": 512,
                        "cpu_cores": 1,
                        "disk_mb": 1,
                        "timeout": 9,
                    },
                    "success_criteria": {
                        "pass_rate": 0.9,
                        "coverage": 0.5,
                        "execution_time_max": 9,
                        "memory_max": 9,
                        "speedup_min": 1,
                        "memory_efficiency": 0.5,
                    },
                    "arguments": ["a.py"],
                    "priority": "high",
                    "role": "Tester",
                    "shards": 2,
                },
                {
                    "id": "B",
                    "template": "b",
                    "dependencies": ["A"],
                    "subtasks": [{"id": "C", "name": "Part", "arguments": []}, "D"],
                },
            ]
        },
    },
    "resource_allocation": {"unit_tests": {"memory_mb": 512, "max_parallel": 2}},
    "agent_limits": {"max_agents": 3, "total_memory_mb": 8192, "total_cpu_cores": 8},
    "failure_handling": _FAILURES,
    "agent_pool": {
        "min_agents": 1,
        "scale_up_threshold": 0.8,
        "scale_down_threshold": 0.3,
        "settle_seconds": 5,
        "agent_timeout": 60,
    },
    "recovery": {
        "retry_delay": 30,
        "human_notification_webhook": "https://example.com/hook",
        "webhook_secret_env": "SECRET",
        "webhook_may_be_private": False,
        "matrix": _MATRIX,
        "classes": _CLASSES,
    },
    "monitoring": {
        "metrics_interval": 10,
        "health_check_interval": 30,
        "log_rotation_size": "100MB",
        "log_retention_days": 7,
    },
    "alerts": {
        "hot": {
            "when": "failure_rate > 0.2",
            "until": "failure_rate < 0.1",
            "over": 60,
            "least": 5,
            "wait": 1,
            "hold": 1,
            "severity": "warning",
            "action": "pause_new_tasks",
            "per": "system",
        }
    },
    "phases": {
        "one": {
            "tests": "unit_tests",
            "mode": "parallel",
            "timeout_seconds": 60,
            "on_failure": "stop",
        }
    },
    "templates": {
        "a": {
            "pytest": ["-q"],
            "arguments": {"A": ["a.py"]},
            "coverage": ["src"],
            "env": {"X": "1"},
            "cwd": ".",
            "python": "python",
        },
        "b": {"command": ["make", "{id}"], "results": "{artifacts}/{id}.xml"},
    },
}
WORKSPACE: Final = {
    "title": "A title",
    "folders": {"tasks": "tasks", "workspace": "workspace"},
    "agent": "claude",
    "stdin": True,
    "agents": {
        "reviewer": {
            "command": ["review", "{task_file}"],
            "stdin": False,
            "capabilities": ["review"],
            "limit": 2,
        }
    },
    "phases": {
        "analysis": {"limit": 2, "timeout": "2h", "gate": ["done"], "approval": False}
    },
    "limits": {"max_concurrent_agents": 4, "max_cpu_per_agent": 2, "max_memory_gb": 4},
    "grace": "10s",
}
TASK_FILE: Final = {
    "dependencies": ["a/two"],
    "inputs": ["a/two/data.json"],
    "outputs": ["report.md"],
    "gate": ["docs/done"],
    "agent": "reviewer",
    "command": "sh -c x",
    "capability": [],
    "timeout": "90m",
    "estimate": 2,
    "priority": "high",
    "retries": 1,
    "resources": {"cpu": 2, "memory_gb": 1.5},
}
JOBS: Final = yaml.safe_load(
    Path(__file__).parents[2].joinpath("ext/jobs/adaptive.yaml").read_text()
)
JOB: Final = {
    "job_id": "one",
    "objective": "index",
    "requested_resources": {"compute_units": 1, "memory_mb": 1, "bandwidth_mbps": 1},
    "tadpole_count": 1,
    "worker_id": "generalist",
    "expected_duration_seconds": 5,
    "reward_signal": 0.5,
    "metadata": {"x": 1},
}
