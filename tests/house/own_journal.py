"""The journal of `examples/own_journal.py`, for tests: it knows only the protocol."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path.append(str(EXAMPLES))

from own_journal import LinesJournal  # noqa: E402 - now that it is found

__all__ = ("EXAMPLES", "LinesJournal")
