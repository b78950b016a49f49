"""Every default number of the library, each with its reason."""

from __future__ import annotations

from typing import Final

#: Seconds that the body of a request may take to arrive.
RECEIPT_SECONDS: Final = 10.0
#: The number of attempts that run at once, as in the core report's orchestrator.
CONCURRENCY: Final = 10
#: Finished tasks that stay whole in memory: a few MB.
KEEP_FINISHED: Final = 10_000
#: MB that they may hold: results, arguments, payloads, locals of failed tasks.
KEEP_FINISHED_MB: Final = 32.0
KEEP_LOGS_MB: Final = 1.0
#: Seconds that one level of priority is worth: no task of level 0 waits longer than a
#: minute behind younger tasks of level 1.
AGING_SECONDS: Final = 60.0
#: Seconds between asking work to stop and giving up on it (Kubernetes and systemd
#: allow 30 and 90 for whole services; a task is smaller).
GRACE_SECONDS: Final = 10.0
#: Seconds between two monitoring events.
MONITOR_SECONDS: Final = 10.0
#: Seconds for the whole end of a service, if its `stop_timeout` is not set.
SERVICE_SECONDS: Final = 10.0
#: Seconds for the whole end that a signal starts: Kubernetes kills after 30.
SIGNAL_SECONDS: Final = 25.0
#: Attempts that may kill their worker before the task counts as the cause (dask's
#: allowed-failures).
POISON_ATTEMPTS: Final = 3
#: Seconds that a policy may take before it is reported as slow: it is called under the
#: lock, so all others wait meanwhile.
SLOW_POLICY_SECONDS: Final = 0.05
#: Seconds for which a policy may run, and the loop may be busy, without a note in
#: health and in the log.
BLOCKING_SECONDS: Final = 1.0
#: Seconds for which health mentions the failure of a policy.
FAULT_SECONDS: Final = 300.0
#: Seconds after which an allocation by hand that tasks wait for may be a leak.
HELD_SECONDS: Final = 3_600.0
#: Seconds that one call of a listener may take before it gets a thread of its own.
SLOW_RECEIVER_SECONDS: Final = 1.0
#: Events that may wait for one listener before it begins to lose them.
RECEIVER_BACKLOG: Final = 100_000
#: Events that are kept for a stream of `orch.events` that does not take them.
FOLLOWED_EVENTS: Final = 10_000
#: Seconds for which an event from outside is kept that no task waits for.
KEEP_EVENTS: Final = 60.0
#: Attempts of one type whose times are kept for the quantiles.
SAMPLE_SIZE: Final = 1_024
#: Weight of the newest attempt in the moving average of a worker's latency.
EWMA_WEIGHT: Final = 0.2
#: The longest duration accepted anywhere, in seconds: a hundred years.
MAX_SECONDS: Final = 100 * 365.25 * 86_400
#: The longest id, in characters: it becomes part of file names.
MAX_ID_LENGTH: Final = 200
#: The most characters of a document of an extension, as JSON: all of them are in each
#: snapshot.
MAX_DOCUMENT: Final = 1_000_000
#: The most documents of an extension.
MAX_DOCUMENTS: Final = 100_000
#: The longest path that a task may write, in characters.
MAX_SCOPE: Final = 500
#: The largest amount of one resource, so that sums stay far below 2 ** 63 units.
MAX_AMOUNT: Final = 1e12
#: The largest weight of an elastic request.
MAX_WEIGHT: Final = 1_000_000
#: The most named units of one resource, and the most members of a list of resources,
#: capabilities or paths; and the most characters of a name.
MAX_UNITS: Final = 1_000
MAX_UNIT_NAME: Final = 200
#: The largest priority, either way: it shifts the order by 60 s a level.
MAX_PRIORITY: Final = 1_000_000
#: Words for priorities: an hour of waiting earlier or later than others, or four hours,
#: since a level is a minute.
PRIORITIES: Final = {"critical": 240, "high": 60, "medium": 0, "normal": 0, "low": -60}
#: The most MB that finished tasks may hold.
MAX_KEPT_MB: Final = 1_000_000_000
#: The most attempts that a policy may ask for.
MAX_ATTEMPTS: Final = 1_000_000
#: Nanoseconds in a second.
NS: Final = 1_000_000_000
#: The least time for which a task steps aside if the system had no room for its start.
ASIDE_NS: Final = NS // 4
#: The longest reason that somebody gives, in characters: events and histories have it.
MAX_TEXT: Final = 10_000
#: The longest name of a person, or of a choice, in characters.
MAX_NAME: Final = 200
