"""
Executors of attempts: calls in processes of this machine.

Those of other machines are in `taskorch.ext.hosts`. All of this is given again from the
room of the core that is named so; the modules are for authors of an executor.

- `link`, `wire`: the link to a process that does calls, and its frames.
- `programs`: programs as taskorch runs them.
- `remote`: calls for another process, and their outcomes.
"""

from typing import TYPE_CHECKING

from taskorch.kit import give_again as _give_again

if TYPE_CHECKING:
    from taskorch.core.executors import *
else:
    __getattr__, __dir__ = _give_again(__name__, "taskorch.core.executors")
