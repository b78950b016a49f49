"""
The figures that seed 002 published of itself: "Simulated", never measured here.

That design ("Core Task Orchestrator") gives them in its sections "Performance
Characteristics" and "Benchmark Results". Times are upper bounds, rates lower ones;
where it gives two figures for one thing, the better one stands here.
"""

TASK_SUBMISSION = 5e-3
TASK_PROCESSING = 50e-3
QUEUE_OPERATION = 0.1e-3
STATE_TRANSITION = 0.01e-3
EVENT_EMISSION = 0.001e-3

TASKS_PER_MINUTE = 1_000.0
EVENTS_PER_MINUTE = 10_000.0
SUBMISSIONS_PER_SECOND = 1_000.0
PROCESSED_PER_SECOND = 100.0

MEMORY_PER_TASK = 2_048.0
