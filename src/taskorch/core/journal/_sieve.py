"""
Texts that the rows of a task contain if it may pass a filter.

Each row is searched as text, which takes a hundredth of the time of making an event of
it. A value that JSON may write in several ways is not searched for: then more rows
pass.

Decision: lists-of-a-journal.
"""

from __future__ import annotations

import re
from typing import Final

from taskorch.core.journal._codec import above
from taskorch.core.journal._session import IS_RARE
from taskorch.model import TaskFilter

#: Texts that JSON and the column of ids have unchanged; a wildcard of LIKE finds more.
_SAFE: Final = re.compile(r"[ !#-\[\]-~]{1,400}")
#: The same without wildcards in a pattern of ids.
_LITERAL: Final = re.compile(r"[ !#-)+->@-Z\]-~]{1,400}")
#: The most digits of a number that is written in full, whole or not.
_DIGITS: Final = 15
#: Metadata, or one value of it, that is kept in another way than plain JSON.
_CODED: Final = '%metadata":{"$%'
_ATTEMPTS: Final = "kind IN ('TaskStarted', 'TaskCompleted') AND body LIKE :agent"
#: It is quick whether many or few attempts ran there.
_NEAR: Final = f"""AND EXISTS (
    SELECT 1 FROM {{facts}} AS attempt
    WHERE {{mine}}attempt.task_id = submission.task_id AND {_ATTEMPTS}
)"""  # noqa: S608 - of our own words
_FAR: Final = f"""AND task_id IN (
    SELECT task_id FROM {{facts}} WHERE {{mine}}seq > :began AND seq <= :ended
    AND {_ATTEMPTS}
)"""  # noqa: S608 - of our own words

_CHANGED: Final = f"""task_id IN (
    SELECT task_id FROM {{facts}} WHERE {{mine}}kind = 'TaskOptionsChanged'
    AND {IS_RARE}"""  # noqa: S608 - of our own words


class Sieve:
    """
    The conditions of *which* on rows, in SQL.

    Args:
        which: The filter.
        is_changed: Whether options of any task were changed by another submission.

    Attributes:
        where: The condition on the row of a submission, if few rows are looked through.
        far: The same for many rows.
        values: The values in both, by name.
        ids: The texts between which the ids are; {}: no index finds them.
        words: What stretches with submissions that may pass contain: see `_stretches`.
        ran: The same for attempts of a worker; empty if none is asked for.
    """

    def __init__(self, which: TaskFilter, *, is_changed: bool = True) -> None:
        self._is_changed = is_changed
        fields = which.fields
        pattern = fields.get("id", "")
        self.words: list[tuple[str, list[str]]] = []
        self.values: dict[str, str] = {}
        # It does not look for the end of a bracket.
        parts = _LITERAL.findall(pattern.partition("[")[0])
        part = max(parts, key=len, default="")
        type_, owner = _quoted(fields.get("type")), _quoted(fields.get("owner"))
        conditions = [
            *self._with("task_id", "part", part),
            *self._with("body", "type", type_),
            *map(self._now, self._with("body", "owner", owner)),
        ]
        self._note("ids", part)
        self._note("words", type_)
        if not is_changed:
            self._note("words", owner)
        items = fields.get("metadata", {}).items()
        for number, (name, value) in enumerate(items):
            conditions += self._entry(f"m{number}_", name, value)
        self.where = self.far = " ".join(f"AND {each}" for each in conditions)
        self.ran: list[tuple[str, list[str]]] = []
        if worker := _quoted(fields.get("agent")):
            self.values["agent"] = f"%{worker}%"
            self.ran = [("words", [worker])]
            self.where, self.far = f"{self.where} {_NEAR}", f"{self.far} {_FAR}"
        begin = _LITERAL.match(pattern)
        self.ids: dict[str, str] = {}
        if begin:
            self.ids = {"prefix": begin[0], "above": above(begin[0])}

    @property
    def is_far_other(self) -> bool:
        """Whether many rows are looked through in another way."""
        return bool(self.ids or self.ran)

    def _note(self, column: str, *texts: str) -> None:
        """Note the texts of which a stretch has one in *column*, if none is empty."""
        if all(texts):
            self.words.append((column, [*texts]))

    def _with(self, column: str, name: str, text: str) -> list[str]:
        """Return the condition that *text* is in a column; none for no text."""
        if not text:
            return []
        self.values[name] = f"%{text}%"
        return [f"{column} LIKE :{name}"]

    def _entry(self, name: str, key: object, value: object) -> list[str]:
        """Return the condition that metadata has *key* with *value*."""
        key = _quoted(key)
        if not key:
            return []
        begins = [f"{key}:{begin}" for begin in _begins(value)]
        if not self._is_changed:
            self._note("words", *begins, _CODED.strip("%"))
        ways = [f"%{begin}%" for begin in begins]
        self.values |= {f"{name}{i}": way for i, way in enumerate(ways)}
        either = " OR ".join(f"doc LIKE :{name}{i}" for i in range(len(ways)))
        # Most rows lack the key, and are searched for that alone. JSON has many quotes,
        # so the search does not begin with one.
        self.values |= {f"{name}key": f"%{key[1:]}:%", f"{name}coded": _CODED}
        has_it = f"doc LIKE :{name}key AND ({either})"
        return [self._now(f"({has_it} OR doc LIKE :{name}coded)")]

    def _now(self, condition: str) -> str:
        """Return *condition* on a row, or on options of the task that came later."""
        if not self._is_changed:
            return condition
        return f"({condition} OR {_CHANGED} AND {condition}))"


def _quoted(value: object) -> str:
    """Return *value* as JSON has it; "" if it may have it in another way."""
    return f'"{value}"' if type(value) is str and _SAFE.fullmatch(value) else ""


def _begins(value: object) -> list[str]:
    """Return the beginnings in JSON of all values that equal *value*."""
    if text := _quoted(value):
        return [text, "{"]
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and value > 1 and len(str(value)) <= _DIGITS:
        return [f"{value}{end}" for end in (",", "}", ".0")] + ["{"]
    return [""]
