"""
Imports that wait until what they bring is used (PEP 810): Python has them from 3.15 on.

A module whose first import is

    from taskorch._at_need import everything as __lazy_modules__

loads what it imports after that as it comes to use it, which an older Python does at
once. That is for modules that are imported for few of their names: what the facade is
made of, and the package of the values. What runs while there is no room for surprises,
such as handlers of signals, imports at once.
"""

from __future__ import annotations

from typing import Final


class _Everything:
    """The names of all modules."""

    def __contains__(self, name: object) -> bool:
        return True


everything: Final = _Everything()
