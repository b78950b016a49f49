"""
Two runs of one workflow beside each other: in what they differ, and what that cost.

    print(orch.compare("night@monday", "night@tuesday"))

Of the difference in the end, it says how much each task accounts for, along the chain
of tasks that the later end came of; and what was otherwise there: code, arguments,
options, attempts, workers, failures. Nothing else of taskorch knows of it but the faces
that ask.

- `_facts`: what is known of one run.
- `_definitions`: in what two tasks of one name are made of other things.
- `_chain`: which tasks the end of a run came of, and what each accounts for.
- `_comparison`: the differences, in the order in which a person asks for them.

Decision: 0305.
"""

from taskorch.comparing._comparison import Comparison as Comparison
from taskorch.comparing._comparison import RunDifference as RunDifference
from taskorch.comparing._comparison import compared as compared
from taskorch.comparing._facts import RunFacts as RunFacts
from taskorch.comparing._facts import TaskFacts as TaskFacts
from taskorch.comparing._facts import facts_of as facts_of
