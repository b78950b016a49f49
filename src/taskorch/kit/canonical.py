"""
The canonical form of JSON (JCS, RFC 8785), for hashes and signatures.

Decision: waivers-and-audits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

#: The largest integer that every reader of JSON gets exactly.
_MOST: Final = 2**53 - 1
#: The powers of ten from which on, and below which, a number has an exponent.
_LARGE: Final = 21
_SMALL: Final = -7


def canonical(value: Any) -> bytes:
    """
    Return the canonical form of *value*, in UTF-8.

    Members are in the order of their names' UTF-16 code units; numbers are written as
    in ECMAScript, texts unchanged.

    Raises:
        ValueError: JSON has no such value, or not every reader would get it exactly: a
            number that is not finite, an integer beyond 2^53 - 1, half of a surrogate
            pair, a name that is no text.
    """
    try:
        return _text(value).encode()
    except UnicodeEncodeError as error:
        msg = f"JSON in its canonical form has no {error.object[error.start]!r}"
        raise ValueError(msg) from error


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                msg = f"the name of a member is a text, not {name!r}"
                raise ValueError(msg)  # noqa: TRY004 - as json says it
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return (
            f"{{{','.join(f'{_text(name)}:{_text(value[name])}' for name in names)}}}"
        )
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    msg = f"JSON has no {type(value).__name__}"
    raise ValueError(msg)


def _number(number: float) -> str:
    if isinstance(number, int):
        if abs(number) > _MOST:
            msg = f"{number} is beyond 2^53 - 1: not every reader has it exactly"
            raise ValueError(msg)
        return str(int(number))
    if not math.isfinite(number):
        msg = f"JSON has no {number!r}"
        raise ValueError(msg)
    if not number:
        return "0"
    # Python and ECMAScript write the same, fewest digits; they differ in the rest.
    mantissa, _, power = f"{abs(float(number))!r}".partition("e")
    whole, _, part = mantissa.partition(".")
    part = part.rstrip("0")
    digits = f"{whole}{part}".lstrip("0")
    #: The value is 0.DIGITS times ten to the power of this.
    point = int(power or 0) + len(whole) - (len(f"{whole}{part}") - len(digits))
    digits = digits.rstrip("0")
    sign = "-" if number < 0 else ""
    if len(digits) <= point <= _LARGE:
        return f"{sign}{digits.ljust(point, '0')}"
    if 0 < point <= _LARGE:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if _SMALL < point - 1 <= 0 and point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if digits[1:] else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"
