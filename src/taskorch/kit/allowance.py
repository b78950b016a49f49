"""
The number of calls that may fail: `allow_failures=2`, or `"5%"` of them.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from taskorch.errors import InvalidTaskError, TooManyFailuresError
from taskorch.kit.visible import as_text, counted, is_text, said, show

#: The most failures that a message shows.
_SHOWN: Final = 3
_ALL: Final = 100
_SHARE: Final = r"(\d{1,3}(?:\.\d{1,9})?) ?%"


class Allowance:
    """
    The number of calls that may fail.

    Args:
        value: A number of calls; or a share of them all, such as `"5%"`.

    Raises:
        InvalidTaskError: It is neither.
    """

    def __init__(self, value: object) -> None:
        self._count: int | None = None
        self._share = Fraction(0)
        self._text = as_text(value)
        if type(value) is int and value >= 0:
            self._count = value
            return
        text = value if is_text(value) else ""
        match = re.fullmatch(_SHARE, text)
        share = None if match is None else Fraction(match[1])
        if share is None or share > _ALL:
            msg = (
                "allow_failures is a number of calls, 0 or more, or a share of them, "
                f"'0%' to '100%', not {show(value)}"
            )
            raise InvalidTaskError(msg, hint="allow_failures=2, or allow_failures='5%'")
        self._share = share

    def most(self, total: int | None) -> int | None:
        """
        Return how many of *total* calls may fail, or None if not known yet.

        A share is rounded down: 5 % of 39 is one.
        """
        if self._count is not None:
            return self._count
        return None if total is None else int(self._share * total / _ALL)

    @property
    def is_none(self) -> bool:
        """True if no call may fail."""
        return not self._count and not self._share

    def error(
        self,
        whose: str,
        failed: Sequence[tuple[str, BaseException | None]],
        total: int | None,
        rest: str,
        task_id: str | None = None,
    ) -> TooManyFailuresError:
        """
        Return the error for more *failed* calls of *whose* than allowed.

        Args:
            whose: The subject of the sentence.
            failed: The ids of the calls that failed, and their errors.
            total: The number of calls; None if not known yet.
            rest: Text on the other calls.
            task_id: The id of the task that fails with the error.
        """
        shown = [_shown(*each) for each in failed[:_SHOWN]]
        more = ", …" if len(failed) > _SHOWN else ""
        of = "" if total is None else f" of its {counted(total, 'call')}"
        most = self.most(total)
        may = f"{most:,}" if most is not None else self._text
        if self._count is None and most is not None:
            may = f"{self._text}, which is {most:,},"
        msg = (
            f"{whose} has more failures than it allows: {len(failed):,}{of} failed, "
            f"and {may} may: {', '.join(shown)}{more}; {rest}"
        )
        names = tuple(name for name, _ in failed)
        error = TooManyFailuresError(msg, failed=names, task_id=task_id)
        error.__cause__ = next((e for _, e in failed if e is not None), None)
        return error


def _shown(name: str, error: BaseException | None) -> str:
    if error is None:
        return name
    return f"{name} ({': '.join(filter(None, said(error)))})"
