"""
Two runs of one workflow beside each other: their differences, and the cost of each.

    print(orch.compare("night@monday", "night@tuesday"))

Of the difference in the end, it says how much each task accounts for, along the chain
of tasks that the later end came of. It names the other differences: code, arguments,
options, sizes of data, machines, workers, attempts, failures. Nothing else of taskorch
knows of it but the faces that ask.

- `_surroundings`: workers, machines, slots and pools around a run.
- `_sizes`: how large values are.
- `_facts`: the facts of one run.
- `_definitions`: the differences of two tasks of one name.
- `_chain`: the tasks that the end of a run came of, and the seconds of each.
- `_causes`: which of the differences is the likeliest cause.
- `_comparison`: the differences, in the order in which a person asks for them.

Decision: dashboard-and-views.
"""

from taskorch.ext.comparing._comparison import (
    Comparison as Comparison,
    RunDifference as RunDifference,
    compared as compared,
    comparison_of as comparison_of,
)
from taskorch.ext.comparing._facts import (
    RunFacts as RunFacts,
    TaskFacts as TaskFacts,
    facts_of as facts_of,
)
from taskorch.ext.comparing._surroundings import (
    Around as Around,
    Surroundings as Surroundings,
)
