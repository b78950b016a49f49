"""
What a journal says to others than its owner, while that runs or when nobody does.

    from taskorch.reading import JournalReader

    for status in JournalReader("runs.db").tasks("failed"):
        print(status.task_id, status.error)
"""

from taskorch.reading._reader import JournalOwner as JournalOwner
from taskorch.reading._reader import JournalReader as JournalReader
from taskorch.reading._reader import Outcomes as Outcomes
