"""
Forms of the fields of tasks in documents.

Decision: documents.
"""

from __future__ import annotations

from typing import Final

from taskorch.kit.forms import Each, Text
from taskorch.model.ids import has_segments, id_problem
from taskorch.model.scopes import scope_problem

__all__ = ("ID", "SCOPES")


def _id_of(text: str) -> str:
    problem = id_problem(text)
    if problem is None and has_segments(text):
        problem = f"{text!r} has a slash"
    if problem is not None:
        raise ValueError(problem)
    return text


def _scope_of(text: str) -> str:
    text = text.strip()
    problem = scope_problem(text)
    if problem is not None:
        raise ValueError(problem)
    return text


#: A text that can be the id of a task, of one segment.
ID: Final = Text(check=_id_of)
#: The paths that may be written, relative to the folder of a project.
SCOPES: Final = Each(Text(check=_scope_of), needs="a list of paths", or_one=True)
