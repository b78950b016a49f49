"""The names that a configuration may have, and the kinds of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskorch._base._limits import MAX_ATTEMPTS, MAX_SECONDS, PRIORITIES
from taskorch.frontends.suite import _criteria
from taskorch.frontends.suite._kinds import (
    Anything,
    Each,
    Either,
    Flag,
    NamedItems,
    Number,
    OneOf,
    Size,
    Text,
    ValueReader,
)
from taskorch.recovery import ACTIONS


def _one_of(*words: str) -> OneOf:
    return OneOf({word: word for word in words})


_ID: Final = Text(is_id=True)
_RETRIES: Final = Number(most=MAX_ATTEMPTS - 1, is_whole=True)
_SOME: Final = Number(least=1, is_whole=True)
_SECONDS: Final = Number(most=MAX_SECONDS)
_TIMEOUT: Final = Number(most=MAX_SECONDS, is_above=True)
_SHARE: Final = Number(most=1)
_PORT: Final = Number(least=1, most=65_535, is_whole=True)
_WORDS: Final = Each(Text(is_any=True), hint="a list of texts")
_ARGV: Final = Each(
    Text(is_any=True), least=1, hint="a list, a program and its arguments,"
)
_IDS: Final = Each(_ID, hint="a list of ids")

_RESOURCES: Final = {
    "memory_mb": Number(is_above=True),
    "cpu_cores": Number(is_above=True),
    "disk_mb": Number(),
    "timeout_seconds": _TIMEOUT,
}
#: Other words for these; what is in another unit is named.
_OTHER_WORDS: Final = {
    "timeout": "timeout_seconds",
    **dict.fromkeys(("cpu", "cpus", "cores", "num_cpus", "vcpus"), "cpu_cores"),
    **dict.fromkeys(("mem_mb", "ram_mb"), "memory_mb"),
}
_CRITERIA: Final = NamedItems(
    {
        "pass_rate": _SHARE,
        "coverage": _SHARE,
        "execution_time_max": _TIMEOUT,
        "memory_max": Number(is_above=True),
        "speedup_min": Number(is_above=True),
        "memory_efficiency": _SHARE,
    },
    synonyms=_criteria.SYNONYMS,
)
_SUBTASK: Final[Mapping[str, ValueReader]] = {
    "id": _ID,
    "name": Text(),
    "resources": NamedItems(_RESOURCES, synonyms=_OTHER_WORDS),
    "success_criteria": _CRITERIA,
    "arguments": _WORDS,
}
_TASK: Final = NamedItems(
    {
        **_SUBTASK,
        "template": Text(),
        "dependencies": _IDS,
        "subtasks": Each(
            Either(_ID, NamedItems(_SUBTASK, needed=["id"])), hint="a list of ids"
        ),
        "priority": OneOf(PRIORITIES),
        "role": Text(),
        "shards": Number(least=1, most=999, is_whole=True),
    },
    needed=["id"],
)
_PHASE: Final = NamedItems(
    {
        "tests": Text(),
        "mode": _one_of("parallel", "sequential_with_parallel_subtasks", "sequential"),
        "timeout_seconds": _TIMEOUT,
        "on_failure": _one_of("stop", "continue", "skip"),
    },
    needed=["tests"],
    synonyms={"timeout": "timeout_seconds"},
)
_TEMPLATE: Final = NamedItems(
    {
        "pytest": _WORDS,
        "command": _ARGV,
        "arguments": NamedItems(others=_WORDS),
        "results": Text(),
        "coverage": _WORDS,
        "env": NamedItems(others=Text(is_any=True)),
        "cwd": Text(),
        "python": Text(),
    }
)
_FAILURES: Final = {
    "max_retries": _RETRIES,
    "retry_delay_seconds": _SECONDS,
    "escalation_threshold": _SOME,
    "timeout_grace_period": _SECONDS,
}

_ALERT: Final = NamedItems(
    {
        "when": Text(),
        "until": Text(),
        "over": _TIMEOUT,
        "least": _SOME,
        "wait": _SECONDS,
        "hold": _SECONDS,
        "severity": _one_of("info", "warning", "critical"),
        "action": _one_of(*ACTIONS),
        "per": _one_of("system", "agent"),
    },
    needed=["when"],
    synonyms={"for": "wait", "condition": "when"},
)

#: All of a configuration.
CONFIGURATION: Final = NamedItems(
    {
        "orchestrator": NamedItems(
            {
                "name": Text(),
                "version": Text(),
                "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
                "api_port": _PORT,
                "metrics_port": _PORT,
                "task_definitions": NamedItems(
                    others=Each(_TASK, hint="a list of tasks")
                ),
            }
        ),
        "resource_allocation": NamedItems(
            others=NamedItems(
                {**_RESOURCES, "max_parallel": _SOME}, synonyms=_OTHER_WORDS
            )
        ),
        "agent_limits": NamedItems(
            {
                "max_agents": _SOME,
                "total_memory_mb": Number(is_above=True),
                "total_cpu_cores": Number(is_above=True),
            }
        ),
        "failure_handling": NamedItems(
            _FAILURES,
            synonyms={"retry_delay": "retry_delay_seconds"},
        ),
        "agent_pool": NamedItems(
            {
                "min_agents": _SOME,
                "max_agents": _SOME,
                "scale_up_threshold": _SHARE,
                "scale_down_threshold": _SHARE,
                "settle_seconds": _SECONDS,
                "agent_timeout": _TIMEOUT,
            }
        ),
        "recovery": NamedItems(
            {
                **_FAILURES,
                "human_notification_webhook": Text(),
                "webhook_secret_env": Text(),
                "webhook_may_be_private": Flag(),
                "matrix": Anything(),
                "classes": Anything(),
            },
            synonyms={"retry_delay": "retry_delay_seconds"},
        ),
        "monitoring": NamedItems(
            {
                "metrics_interval": _TIMEOUT,
                "health_check_interval": _TIMEOUT,
                "log_rotation_size": Size(),
                "log_retention_days": Number(is_above=True),
            }
        ),
        "alerts": NamedItems(others=Either(_one_of("off"), _ALERT)),
        "phases": NamedItems(others=_PHASE),
        "templates": NamedItems(others=_TEMPLATE),
    }
)
