"""
Limits in texts of requests: times, moments, costs, amounts, priorities.

Each limit that is understood is taken out of the text. Words in the rest that may be a
limit refuse the text.

Decision: planner.
"""

# ruff: noqa: ISC004, E501 - patterns are rows of a table

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

import attrs

from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner._values import Constraint, Deadline, MaxCost, MaxPeak

#: The character that replaces words that are understood.
_TAKEN: Final = "\0"
#: The number of letters around a limit that a refusal shows.
_SHOWN: Final = 40

# -- numbers -----------------------------------------------------------------------

_WORDS: Final = {
    word: number
    for number, words in {
        **dict(
            enumerate(
                [
                    "one",
                    "two",
                    "three",
                    "four",
                    "five",
                    "six",
                    "seven",
                    "eight",
                    "nine",
                ],
                1,
            )
        ),
        **dict(enumerate(["ten", "eleven", "twelve"], 10)),
        15: "fifteen",
        20: "twenty",
        30: "thirty",
        40: "forty",
        45: "forty-five",
        50: "fifty",
        60: "sixty",
        90: "ninety",
    }.items()
    for word in words.split()
}
_FIGURES: Final = r"(?<![\w.,+-])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![.,]?\d)"
_SPELLED: Final = rf"\b(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})\b(?!-)"
_NUMBER: Final = rf"(?:{_FIGURES}|{_SPELLED})"


#: In some countries such a number is a thousand and more; in others a fraction.
_EITHER: Final = r"[1-9]\d{0,2}\.\d{3}"


def _number(text: str) -> float:
    """
    Return the number that `_NUMBER` has matched.

    Raises:
        InvalidTaskError: Its value differs between countries.
    """
    if re.fullmatch(_EITHER, text):
        msg = f"{text} is one number in some countries, and another one in others"
        raise InvalidTaskError(msg)
    return float(_WORDS.get(text.lower()) or text.replace(",", ""))


# -- times -------------------------------------------------------------------------

_UNITS: Final = {
    0.001: "ms milliseconds millisecond msec msecs",
    1.0: "s sec secs second seconds",
    60.0: "m min mins minute minutes",
    3600.0: "h hr hrs hour hours",
    86400.0: "d day days",
    604800.0: "w wk wks week weeks",
}
_SECONDS: Final = {
    word: each for each, words in _UNITS.items() for word in words.split()
}
_UNIT: Final = rf"(?:{'|'.join(sorted(_SECONDS, key=len, reverse=True))})(?![\w.]*\w)"
#: `1h30m` has a unit before a figure.
_UNIT_IN_ONE: Final = _UNIT.replace(r"(?![\w.]*\w)", r"(?![^\W\d_])")
_LONG: Final = r"(?:second|minute|hour|day|week)\b"
_PARTS: Final = (
    rf"{_NUMBER}(?:\s+and\s+a\s+half)?[\s-]*{_UNIT_IN_ONE}"
    rf"(?:(?:\s*,)?\s*(?:and\s+)?(?:(?<=\w)\d+(?:\.\d+)?|{_NUMBER})[\s-]*{_UNIT_IN_ONE}){{0,3}}"
    r"(?!\w)"
)
_TIME: Final = (
    rf"(?:{_PARTS}|half\s+an?\s+{_LONG}|(?:a\s+)?quarter\s+of\s+an?\s+{_LONG}"
    rf"|an?\s+{_LONG}(?:\s+and\s+a\s+half\b)?)"
)


def _seconds(text: str) -> float:
    """Return the seconds of a time that `_TIME` has matched."""
    low = text.lower()
    if not re.search(rf"\d|{_SPELLED}", low):
        unit = re.search(_LONG, low)
        assert unit is not None  # noqa: S101 - it was found by it
        many = 0.5 if low.startswith("half") else 0.25 if "quarter" in low else 1.0
        return (many + 0.5 * low.endswith("half")) * _SECONDS[unit[0]]
    pattern = rf"(\d[\d,]*(?:\.\d+)?|{_SPELLED})(\s+and\s+a\s+half)?[\s-]*([a-z]+)"
    return sum(
        (_number(many) + 0.5 * bool(half)) * _SECONDS[unit]
        for many, half, unit in re.findall(pattern, low)
        if unit in _SECONDS
    )


# -- moments -----------------------------------------------------------------------

_CLOCK: Final = (
    r"(?:(?P<day>today|tomorrow|\d{4}-\d\d-\d\d)(?:\s+(?:at\s+)?|T|,\s*))?"
    r"(?:(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?"
    r"(?:\s*(?P<half>[ap])\.?m\b\.?)?|\s*(?P<only>[ap])\.?m\b\.?)"
    r"|(?P<word>noon|midday|midnight)\b)(?![\d:])"
    r"(?:\s*(?P<shift>[+-]\d\d:?\d\d\b)|\s*(?P<utc>Z\b|UTC\b(?!\s*[+-]?\d)|GMT\b(?!\s*[+-]?\d))"
    r"|\s+(?P<zone>[A-Za-z_]+(?:/[A-Za-z_]+)+\b"
    r"|(?-i:(?!ASAP\b|MAX\b)[A-Z]{2,5}\b)"
    r"|(?:cest|cet|[ecmp][sd]t|bst|ist|jst)\b)"
    r"|\s+local(?:\s+time)?\b)?"
    r"(?:\s+(?P<late>today|tomorrow))?(?!\s*(?:\w+\s+)?time\b)"
)
_BY: Final = (
    r"(?:by|before|until|till|no\s+later\s+than|not\s+later\s+than|at\s+the\s+latest"
    r"(?:\s+at)?|due(?:\s+(?:by|at))?|deadline(?:\s+(?:of|is|at|by))?\s*[:=]?)"
)


def _moment(  # noqa: C901 - each part of a moment may be left out
    found: re.Match[str], now: datetime
) -> datetime:
    """
    Return the moment that `_CLOCK` has matched; a time alone is today's.

    Raises:
        PlanningError: There is no such day or zone, or the clock shows the time twice.
    """
    zone: tzinfo | None = None
    if found["utc"]:
        zone = timezone.utc  # noqa: UP017 - as an offset
    elif found["shift"]:
        sign = -1 if found["shift"][0] == "-" else 1
        digits = found["shift"][1:].replace(":", "")
        hours, minutes = int(digits[:2]), int(digits[2:])
        zone = timezone(sign * timedelta(hours=hours, minutes=minutes))
    elif found["zone"]:
        try:
            name = found["zone"]
            zone = ZoneInfo(name if "/" in name else name.upper())
        except (OSError, ValueError, KeyError) as error:
            raise _not_understood(found[0]) from error
    here = now.astimezone(zone)
    word = (found["word"] or "").lower()
    hour = 24 if word == "midnight" else 12 if word else int(found["hour"])
    half = (found["half"] or found["only"] or "").lower()
    if half:
        if not 1 <= hour <= 12:  # noqa: PLR2004 - of a clock with hands
            raise _not_understood(found[0])
        hour = hour % 12 + (12 if half == "p" else 0)
    minute, second = int(found["minute"] or 0), int(found["second"] or 0)
    days = {day.lower() for day in (found["day"], found["late"]) if day}
    if len(days) > 1 or (hour == 24 and (minute or second)):  # noqa: PLR2004
        raise _not_understood(found[0])
    day = next(iter(days), "today")
    try:
        at = here.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        if day[0].isdigit():
            at = datetime.fromisoformat(day)
        at += timedelta(days=day == "tomorrow", hours=hour)
        at = at.replace(minute=minute, second=second)
    except (ValueError, OverflowError) as error:
        raise _not_understood(found[0]) from error
    moments = [
        at.replace(fold=fold).astimezone()
        if zone is None
        else at.replace(fold=fold, tzinfo=zone)
        for fold in (0, 1)
    ]
    if moments[0].utcoffset() != moments[1].utcoffset():
        msg = f"the clock shows {found[0].strip()} twice, or not at all, on that day"
        raise PlanningError(msg, hint="say it in UTC: by 17:00 UTC")
    if moments[0] <= now:
        msg = f"{found[0].strip()} is past: it is {now.astimezone(zone):%H:%M %Z}"
        raise PlanningError(msg, hint="say the day: by tomorrow 17:00")
    return moments[0]


# -- limits ------------------------------------------------------------------------

#: Words for "not more than". Words for "less than" are refused but for times.
_MOST: Final = (
    r"(?:at\s+(?:the\s+)?most|(?:no|not)\s+(?:more|longer|over|greater)(?:\s+than)?"
    r"|(?:not|without)\s+exceeding|up\s+to|max(?:imum)?\.?(?:\s+of)?:?|<=|≤)"
)
_LESS: Final = r"(?:under|below|less\s+than|shorter\s+than|<)"
_AFTER: Final = r"(?:at\s+(?:the\s+)?most|max(?:imum)?|or\s+less|tops)"
_MONEY: Final = r"(?:dollars?|euros?|pounds?|francs?|yen|bucks?|eur|usd|gbp|chf|units\s+of\s+cost|cost|€|\$|£)(?!\w)"
_SIGN: Final = r"[$€£]"
_CODE: Final = r"(?:eur|usd|gbp|chf)\b"
_COST: Final = rf"(?:(?:{_SIGN}|{_CODE})\s*{_NUMBER}|{_NUMBER}\s*{_MONEY})"
#: Other names of a resource.
_ALSO: Final = {
    **dict.fromkeys(["cpus", "core", "cores", "processor", "processors"], "cpu"),
    "gpus": "gpu",
}
_SIZES: Final = {
    "mb": 1,
    "mib": 1,
    "gb": 1024,
    "gib": 1024,
    "tb": 1024**2,
    "tib": 1024**2,
}
_END: Final = r"(?=\s*(?:$|[,;!)\0]|\.(?!\d)))"

_PATTERNS: Final[Sequence[tuple[str, str]]] = tuple(
    (kind, pattern.replace(" ", r"\s+"))
    for kind, pattern in (
        ("moment", rf"\b{_BY}\s*{_CLOCK}".replace(" ", r"\s")),
        (
            "time",
            r"(?:\b(?:in|due in|done in|taking|takes|for|time|duration)(?: (?:of|is))?"
            r"[:=]? ){0,2}"
            rf"(?:\bwithin(?: the next)?|\bdeadline(?: of| is)?\s*[:=]?|(?<!\w){_MOST}"
            rf"(?: (?:time|duration|deadline)(?: of)?)?|(?<!\w){_LESS}|\bdue in)\s*"
            rf"(?P<time>{_TIME})",
        ),
        (
            "time",
            rf"\b(?:(?:in|for|takes?|taking) )?(?P<time>{_TIME}),? {_AFTER}\b",
        ),
        ("time", r"\bdeadline\s*=\s*(?P<plain>\d+(?:\.\d+)?)(?!\S*\w)"),
        (
            "cost",
            rf"(?:\b(?:for|costs?|costing|a cost of|at|price)[:=]? ){{0,2}}(?<!\w){_MOST}"
            rf"(?: costs?(?: of)?\s*[:=]?)?\s*(?P<cost>{_COST})",
        ),
        ("cost", rf"\b(?:for )?(?P<cost>{_COST}),? {_AFTER}\b"),
        (
            "cost",
            rf"(?<!\w)(?:{_MOST} costs?(?: of)?\s*[:=]?|cost(?:s|ing)?(?: of)? {_MOST}"
            rf"|costs?\s*(?:<=|≤))\s*(?P<cost>{_NUMBER}){_END}",
        ),
        ("cost", rf"\bfor {_MOST}\s*(?P<cost>{_NUMBER}){_END}"),
        ("cost", rf"(?:^|[\0,;(])\s*{_MOST}\s*(?P<cost>{_NUMBER})(?=\s*[.!]?\s*$)"),
        (
            "amount",
            rf"(?:\b(?:with|using|on) )?(?<!\w){_MOST}\s*(?P<amount>{_NUMBER})\s*"
            r"(?P<what>(?!(?:of|and|or|in|at|cents?)\b|e\d)[A-Za-z_][\w.-]*\w)"
            r"(?: (?:of )?(?:memory|ram))?"
            r"(?: (?:at once|at a time|in parallel|at the same time|concurrently))?",
        ),
        (
            "amount",
            rf"(?:\b(?:with|using|on) )?(?P<amount>{_NUMBER})\s*"
            r"(?P<what>(?!of\b|and\b|or\b)[A-Za-z_][\w.-]*\w)"
            rf"(?: (?:of )?(?:memory|ram))? {_AFTER}\b"
            r"(?: (?:at once|at a time|in parallel|at the same time|concurrently))?",
        ),
        (
            "amount",
            rf"(?:\b(?:with|using|on) )?\b(?!it\b|costing\b|spend)(?P<what>[A-Za-z_][\w.-]*\w)\s*"
            rf"{_MOST}\s*(?P<amount>{_NUMBER}){_END}",
        ),
        (
            "priority",
            r"\b(?:with )?(?:a )?prio(?:rity)?(?: (?:of|is))?\s*[:=]?\s*"
            r"(?P<priority>[+-]?\d+)\b(?![.,/%]?\w)",
        ),
        (
            "low",
            r"\b(?:with )?(?:a )?(?:low prio(?:rity)?|prio(?:rity)?(?: is)?\s*[:=]?\s*low"
            r"|no (?:hurry|rush)|not urgent(?:ly)?)\b",
        ),
        (
            "high",
            r"\b(?:with )?(?:a )?(?:high prio(?:rity)?|prio(?:rity)?(?: is)?\s*[:=]?\s*high"
            r"|urgent(?:ly)?|asap|a\.s\.a\.p|as (?:soon|quickly|fast) as (?:possible|you can)"
            r"|immediately|instantly|(?:right|straight) away|right now)\b",
        ),
    )
)
_COMPILED: Final = [(kind, re.compile(p, re.IGNORECASE)) for kind, p in _PATTERNS]

_WEEKDAY: Final = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_MONTH: Final = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november"
    r"|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
)
_DAY: Final = (
    rf"(?:{_WEEKDAY}|mon|tue|wed|thu|fri|sat|sun|{_MONTH}"
    r"|weekend|tonight|tomorrow|today|yesterday|noon|midday|midnight|eod|eow|eom|cob"
    r"|morning|evening|afternoon|night|lunch|dawn|christmas|easter|new year|now"
    r"|q[1-4]"
    r"|end|start|beginning|close|next|this|week|month|year|then|later)\b"
)
#: Words that may be a limit where they stand alone; elsewhere they describe something.
_ALONE: Final = (
    r"(?:(?:this|it)(?:\s+is|\'s)\s+)?(?:(?:and|but|very|really|quite|so|do|run)\s+)*"
    r"(?:important|critical|soon|quick(?:ly)?|fast|later|overnight|cheap(?:ly)?|once"
    r"|over\s+the\s+weekend|daily|hourly|nightly|weekly|monthly|at\s+once|slowly)"
)
#: Words that may be a limit, and were not understood as one.
_LEFT: Final = re.compile(
    "|".join(
        (
            rf"(?:\b\w+\s+){{0,2}}(?:\d[\d.,]*|{_SPELLED})[\s-]*"
            rf"(?:{_UNIT}|{_MONEY}|months?\b|years?\b|fortnights?\b|decades?\b"
            r"|(?:business|working|calendar)\b|o'?clock\b|[ap]\.?m\b|%|percent\b"
            r"|cpus?\b|gpus?\b|cores?\b|processors?\b|workers?\b|agents?\b|threads?\b"
            r"|process(?:es)?\b|nodes?\b|machines?\b|[kmgt]i?b\b|tokens?\b|ram\b|memory\b"
            r"|retr(?:y|ies)\b|attempts?\b|tries\b|times\b|slots?\b|at once\b"
            r"|at a time\b|in parallel\b|concurrent)",
            rf"(?:\b\w+\s+)?{_SIGN}\s*\d[\d.,]*",
            r"(?:\b\w+\s+)?\b\d{1,2}:\d\d\S*",
            r"\b(?:an?|half an?|few|couple of|some|several)\s+"
            r"(?:second|minute|hour|day|week|fortnight|month|year)s?\b",
            r"\bwithin\b(?:\s+\S+){0,3}",
            r"\b(?:deadline|due|prio(?:rity|rities)?|budgets?|timeout|time\s*limit"
            r"|time-?box\w*)\b(?:\s*[:=]?\s*\S+){0,2}",
            r"(?:at\s+(?:the\s+)?(?:most|least|latest|earliest)"
            r"|\b(?:no|not)\s+(?:more|less|fewer|later|longer|over|earlier|sooner|before"
            r"|after|until)\b|\bminimum\b|\bmaximum\b|\bmax\b|\bmin\b|\bexceed\w*"
            r"|<=?|>=?|≤|≥)(?:\s*\S+){0,3}",
            rf"\b(?:under|below|over|above|less\s+than|more\s+than|fewer\s+than|up\s+to"
            rf"|limit(?:ed)?(?:\s+(?:of|to))?|costs?|costing|price)\s*[:=]?\s*"
            rf"(?:{_SIGN}|\d|{_SPELLED})\S*(?:\s+\w+)?",
            rf"\b(?:by|before|until|till|after|since|from|on|not)\s+"
            rf"(?:(?:the|a|about|around|roughly)\s+)?(?:{_DAY}|\d|{_SPELLED})(?:\S|\s+(?=\d))*"
            r"(?:\s+\w+)?",
            rf"\b(?:{_WEEKDAY}|{_MONTH}\s+\d+|\d+\w*\s+{_MONTH})\b",
            r"(?:\b\w+\s+)?(?:\b\d{4}-\d\d-\d\d|\b\d{1,2}/\d{1,2})(?:\S)*",
            r"\b(?:tomorrow|tonight|today|eod|eow|eom|next\s+(?:week|month|year)"
            r"|this\s+(?:week|month|year)|end\s+of\s+(?:the\s+)?(?:day|week|month|year"
            r"|business)|by\s+then)\b",
            r"\bevery\s+(?:\S+\s+)?(?:second|minute|hour|day|night|morning|week|month)s?\b",
            r"\b(?:urgen\w+|hurry|rush)\b",
            r"\b(?:this|in\s+the)\s+(?:morning|afternoon|evening)\b",
            r"\bconcurrency\s*(?:of\s+)?[:=]?\s*\d\S*",
            r"\b(?:no|without)\s+(?:an?\s+|any\s+)?(?:cpus?|gpus?|cores?|workers?|agents?|threads?)\b",
            r"\b(?:half|quarter|five|ten|twenty)\s+(?:past|to)\s+\w+|\b\d+\s+past\s+\w+",
            r"\bas\s+\w+\s+as\s+(?:possible|you\s+can)\b",
            r"\b(?:whenever|when)\s+(?:you|there|it|we)\b(?:\s+\w+){0,2}",
            r"\b(?:twice|thrice)\b|\beach\s+(?:second|minute|hour|day|night|morning|week)\b",
            r"\b(?:cpus?|gpus?|cores?|memory|ram|workers?|agents?|threads?)\s*[:=]\s*\d\S*",
            r"\b\d+\s*[\'\"](?!\w)",
            r"(?-i:\bP[0-5]\b)",
            rf"(?:^|[\0,;.!(])\s*{_ALONE}\s*(?=$|[\0,;.!)])",
        )
    ),
    re.IGNORECASE,
)

#: Words before and after a limit that change its meaning.
_TURNED: Final = re.compile(
    r"(?:\b(?:not|never|don't|doesn't|unless|except|about|around|roughly|almost|nearly"
    r"|ideally|preferably|hopefully|maybe|perhaps|possibly|normally|usually"
    r"|approximately|approx\.?|more\s+than|at\s+least)|~)\s*$",
    re.IGNORECASE,
)
_QUALIFIED: Final = re.compile(
    r"\s*,?\s*(?:each|apiece|per|or\s+(?:so|more|longer|later)|if\s+(?:possible|you\s+can)"
    r"|(?:and\s+)?\d+(?![\w.,:]*\w|\s*(?:[$€£%]|[A-Za-z]))"
    r"|(?:an?|every|the\s+(?:next|following)|on|in\s+the|next)\s+\w+)\b|\s*/|-?ish\b",
    re.IGNORECASE,
)

_HINT: Final = (
    "say within 2 hours, by 17:00, at most 20 eur, at most 2 cpu, priority 7 or "
    "urgently; or plan a TaskRequest, which has fields for all that"
)


@attrs.define
class TextLimits:
    """The limits in a text."""

    constraints: list[Constraint] = attrs.field(factory=list)
    deadline: datetime | None = None
    priority: int | None = None


def limits_in(text: str, now: Callable[[], datetime]) -> TextLimits:
    """
    Return the limits in *text*, in which names and arguments are blanked.

    Args:
        text: The text.
        now: Returns the current time.

    Raises:
        PlanningError: Words may be a limit, and are not understood; or two limits
            contradict each other.
    """
    limits = TextLimits()

    def take(kind: str, found: re.Match[str]) -> str:
        before, after = found.string[: found.start()], found.string[found.end() :]
        turned, more = _TURNED.search(before), _QUALIFIED.match(after)
        if turned is not None or more is not None:
            rest = "" if more is None else more[0]
            words = "" if turned is None else turned[0]
            turned_words = f"{words}{found[0]}{rest}"
            raise _not_understood(turned_words)
        try:
            _take(limits, kind, found, now)
        except (InvalidTaskError, OverflowError) as error:
            raise _not_understood(found[0]) from error
        return _TAKEN * len(found[0])

    text = re.sub(r"\s+", " ", text)
    for kind, pattern in _COMPILED:
        text = pattern.sub(lambda found, kind=kind: take(kind, found), text)  # type: ignore[misc]
    unclear = _LEFT.search(text)
    if unclear is not None:
        raise _not_understood(unclear[0])
    return limits


def _take(
    limits: TextLimits, kind: str, found: re.Match[str], now: Callable[[], datetime]
) -> None:
    """Note one limit of *kind*."""
    named = found.groupdict()
    if kind == "moment":
        if limits.deadline is not None:
            msg = f"the text says a second deadline: {found[0].strip()}"
            raise PlanningError(msg, hint="say one")
        limits.deadline = _moment(found, now())
    elif kind == "time":
        plain = named.get("plain")
        much = float(plain) if plain else _seconds(found["time"])
        limits.constraints.append(Deadline(much))
    elif kind == "cost":
        bare = re.search(_NUMBER, found["cost"].lstrip("$€£ "), re.IGNORECASE)
        assert bare is not None  # noqa: S101 - it was found by it
        limits.constraints.append(MaxCost(_number(bare[0])))
    elif kind == "amount":
        much, resource = _number(found["amount"]), found["what"]
        if resource.lower() in _SIZES:
            if not re.search(r"memory|ram\b", found[0], re.IGNORECASE):
                raise _not_understood(found[0])
            much, resource = much * _SIZES[resource.lower()], "memory_mb"
        resource = _ALSO.get(resource.lower(), resource)
        limits.constraints.append(MaxPeak(resource, much))
    else:
        levels = {"high": 10, "low": -10}
        level = levels[kind] if kind in levels else int(found["priority"])
        if limits.priority not in (None, level):
            msg = f"the text says a second priority: {found[0].strip()}"
            raise PlanningError(msg, hint="say one")
        limits.priority = level


def _not_understood(words: str) -> PlanningError:
    shown = " ".join(words.replace(_TAKEN, " ").split())[:_SHOWN]
    return PlanningError(f"what does {shown!r} mean in this text?", hint=_HINT)
