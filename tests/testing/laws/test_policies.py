"""The policies that come with the library keep the laws."""

from __future__ import annotations

from functools import partial

import pytest
import tenacity

from taskorch import policies
from taskorch.model import RetryPolicy, Task
from taskorch.testing.laws import (
    check_agent_registry,
    check_resource_allocator,
    check_retry_handler,
    check_state_machine,
    check_task_queue,
    check_task_router,
    check_validator,
)

SCHEMA = {
    "type": "object",
    "required": ["path"],
    "properties": {"path": {"minLength": 1}, "size": {"minimum": 0}},
}

POLICIES = [
    (check_agent_registry, policies.CapabilityRegistry),
    (
        check_agent_registry,
        partial(policies.SourceRegistry, {"ann": ["work", "gpu"], "bob": ["work"]}),
    ),
    (check_task_router, policies.PerformanceRouter),
    (check_task_router, partial(policies.PerformanceRouter, 1.0)),
    (check_task_router, policies.LeastLoadedRouter),
    (check_task_router, partial(policies.LeastLoadedRouter, choices=2)),
    (check_validator, policies.StructuralValidator),
    (
        check_validator,
        partial(policies.ValidatorChain, policies.StructuralValidator()),
    ),
    (
        check_validator,
        partial(policies.JsonSchemaValidator, {"work": SCHEMA, "build": SCHEMA}),
    ),
    (check_state_machine, policies.StandardStateMachine),
    (check_state_machine, policies.FourStateMachine),
    (check_task_queue, policies.PriorityQueue),
    (check_task_queue, partial(policies.PriorityQueue, 0.5, 10, 60.0)),
    (check_task_queue, policies.FifoQueue),
    (check_task_queue, policies.DeadlineQueue),
    (check_task_queue, partial(policies.FairShareQueue, {"ann": 2})),
    (check_task_queue, partial(policies.ScoreQueue, {"n": 60, "m": -5})),
    (check_retry_handler, policies.BackoffRetryHandler),
    (
        check_retry_handler,
        partial(
            policies.TenacityRetryHandler,
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(),
        ),
    ),
    (check_retry_handler, policies.QuotaRetryHandler),
    (
        check_retry_handler,
        partial(policies.QuotaRetryHandler, tokens=3, when_empty="wait"),
    ),
    (check_resource_allocator, policies.PoolAllocator),
    (check_resource_allocator, policies.ProportionalAllocator),
]


def name_of(value):
    return getattr(getattr(value, "func", value), "__name__", None)


@pytest.mark.parametrize(("check", "made"), POLICIES, ids=name_of)
def test_a_policy_of_the_library_keeps_the_laws(check, made):
    check(made, examples=8)


@pytest.mark.slow("ten times as many cases")
@pytest.mark.parametrize(("check", "made"), POLICIES, ids=name_of)
def test_a_policy_of_the_library_keeps_the_laws_in_many_cases(check, made):
    check(made, seed=1, examples=75)


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_random(1, 2),
        tenacity.wait_exponential_jitter(),
        tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_random()),
    ],
)
def test_the_strategies_of_tenacity_draw_from_the_context(wait):
    policy = RetryPolicy(5, wait=wait)

    tasks = [Task("x", retry=policy)]
    check_retry_handler(policies.BackoffRetryHandler(), tasks=tasks, examples=10)
