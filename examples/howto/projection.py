from collections import Counter

from taskorch import TaskOrchestrator
from taskorch.events import TaskCompleted, TaskFailed
from taskorch.protocols import Projection


class Ends(Projection):
    wants = frozenset({TaskCompleted, TaskFailed})

    def __init__(self):
        self.counts: Counter[str] = Counter()

    def take(self, event, document):
        self.counts[type(event).__name__] += 1


for _ in range(2):  # the second run knows of the first
    ends = Ends()
    with TaskOrchestrator(journal="sales.db") as orch:
        orch.signals.follow(ends)
        orch.submit(sorted, [3, 1, 2])
    print(ends.counts["TaskCompleted"])  # 1, then 2
