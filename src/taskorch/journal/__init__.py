"""Where events are kept. A journal stores facts and knows nothing of tasks."""

from taskorch.journal._memory import MemoryJournal as MemoryJournal
