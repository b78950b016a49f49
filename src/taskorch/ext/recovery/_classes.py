"""
Classes of failures, from exceptions, and from the end and the output of programs.

Strong evidence comes first: a user's rules, our own stop, a kill for want of memory,
a code or a number of what was raised, its class. If that is a guess, its cause is read
next, and then its words. The words of a program's output come before its exit status,
which is 1 for most failures. A failure without evidence is `unknown`.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import builtins
import errno
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from threading import current_thread, main_thread
from types import MappingProxyType
from typing import Any, Final

import attrs

from taskorch.errors import (
    AttemptLostError,
    InvalidTaskError,
    MemoryLimitError,
    ProgramFailedError,
    TaskFailedError,
    TaskorchError,
    TaskTimeoutError,
    leaves,
)
from taskorch.ext.recovery._codes import ByCode, by_code, by_told_code, each
from taskorch.ext.recovery._words import (
    CAUSE,
    ERROR,
    HINT,
    SUMMARY,
    lines_of,
    strongest,
)
from taskorch.kit.checks import check_exact
from taskorch.kit.forms import Each, Number, Text, may_be
from taskorch.kit.patterns import searcher
from taskorch.kit.visible import as_text, is_text, show
from taskorch.kit.vocabulary import meant, suggesting
from taskorch.model import ProgramResult

#: For each class of failures, whether another attempt without changes may succeed.
CLASSES: Final[Mapping[str, bool]] = MappingProxyType(
    {
        "import_error": False,
        "permission_error": False,
        "memory_error": False,
        "timeout_error": True,
        "calculation_error": False,
        "logic_error": False,
        "system_error": True,
        "network_error": True,
        "unknown": True,
    }
)
#: Synonyms of the classes.
_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{name.removesuffix("_error"): name for name in CLASSES},
        "resource_exhaustion": "memory_error",
        "out_of_memory": "memory_error",
        "oom": "memory_error",
        "agent_failure": "system_error",
        "unknown_error": "unknown",
    }
)

#: The most characters that are read of the end of a text, where the last error stands.
_MOST_TEXT: Final = 10_000
#: The most characters that are read of an output whose end shows only a long clean-up.
_MOST_OUTPUT: Final = 64 * 2**10
#: An exit code; a negative one is a signal.
_CODE: Final = Number(least=-64, most=2**32, is_whole=True)
#: The most exceptions that are read of one chain.
_MOST_CAUSES: Final = 12
#: The most exceptions of a group that are read.
_MOST_MEMBERS: Final = 24
#: The most arguments of an exception that are checked for exceptions.
_MOST_ARGUMENTS: Final = 3
#: Attributes in which urllib3, SQLAlchemy and aiohttp keep the underlying error.
_WORDS_BELOW: Final = ("reason", "orig", "os_error", "original_error")
#: The most characters of a line in which a code is looked for.
_MOST_LINE: Final = 1_000
#: Lines of a traceback between a frame and its error.
_FRAME: Final = 4


def class_of(word: str) -> str:
    """
    Return the name of the class for *word*, which is its name or a synonym.

    Raises:
        InvalidTaskError: No class has this name or synonym.
    """
    plain = as_text(word).strip().lower().replace(" ", "_").replace("-", "_")
    name = plain if plain in CLASSES else _ALIASES.get(plain)
    if name is None:
        msg = f"{show(word)} is no class of failures"
        words = (*CLASSES, *_ALIASES)
        hint = meant(plain, words, f"one of {', '.join(CLASSES)}")
        raise InvalidTaskError(msg, hint=hint)
    return name


@suggesting
@attrs.frozen
class FailureClass:
    """
    Class of a failure, with the evidence for it.

    Attributes:
        name: `import_error`, `permission_error`, `memory_error`, `timeout_error`,
            `calculation_error`, `logic_error`, `system_error`, `network_error` or
            `unknown`.
        evidence: The reason for this class, in a few words.
        sure: Whether the evidence leaves little doubt.
    """

    name: str = attrs.field(converter=class_of)
    evidence: str = ""
    sure: bool = True

    @property
    def transient(self) -> bool:
        """True if another attempt without any change may succeed."""
        return CLASSES[self.name]

    def __str__(self) -> str:
        return f"{self.name} ({self.evidence})" if self.evidence else self.name


@suggesting
@attrs.frozen
class Rule:
    """
    A rule of the user's: failures of this kind belong to the class *name*.

    All that is given must hold.

    Attributes:
        name: The class, or a synonym.
        error: The exception's class, or a base of it.
        text: A regular expression for the last ten thousand letters of message and
            output.
        exit_code: Exit codes of programs; negative: signals.
        when: A function of the exception that returns whether it is in the class.

    Raises:
        InvalidTaskError: There is no such class, nothing is given, or the text is no
            regular expression, or one that might be searched for without end.
    """

    name: str = attrs.field(converter=class_of, metadata=may_be(Text(check=class_of)))
    error: str | None = attrs.field(default=None, kw_only=True, metadata=may_be(Text()))
    text: str | None = attrs.field(default=None, kw_only=True, metadata=may_be(Text()))
    exit_code: Collection[int] = attrs.field(
        default=(), kw_only=True, metadata=may_be(Each(_CODE, or_one=True))
    )
    when: Callable[[BaseException], object] | None = attrs.field(
        default=None, kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        codes: object = self.exit_code
        if self.error is not None and not is_text(self.error):
            msg = (
                f"the rule for {self.name}: error={self.error!r} is no name of a class"
            )
            raise InvalidTaskError(msg)
        hint = "name a base of them, or give text=, a regular expression"
        check_exact("error", self.error or "", hint)
        if isinstance(codes, int):
            object.__setattr__(self, "exit_code", (codes,))
        if not (self.error or self.text or self.exit_code or self.when):
            msg = f"the rule for {self.name} does not say of which failures"
            raise InvalidTaskError(msg, hint="give error=, text=, exit_code= or when=")
        for code in self.exit_code:
            if isinstance(code, bool) or not isinstance(code, int):
                msg = (
                    f"the rule for {self.name}: exit_code: {code!r} is no whole number"
                )
                raise InvalidTaskError(msg)
        try:
            searcher(self.text or "")
        except (re.error, TypeError, OverflowError, RecursionError) as wrong:
            msg = f"the rule for {self.name}: text={self.text!r}: {wrong}"
            raise InvalidTaskError(msg) from wrong

    def holds(self, error: BaseException, text: Callable[[], str]) -> bool:
        """Return whether the rule matches *error*, with message and output *text*."""
        if self.error and self.error not in _names_of(error):
            return False
        result = _result_of(error)
        code = None if result is None else result.exit_code
        if self.exit_code and code not in self.exit_code:
            return False
        if self.text is not None:
            is_in = searcher(self.text)
            if not is_in(text()[-_MOST_TEXT:]):
                return False
        return self.when is None or bool(self.when(error))


def classify(
    error: BaseException, output: str = "", rules: Iterable[Rule] = ()
) -> FailureClass:
    """
    Return the class of the failure *error*.

    The first of these that applies: corrections by people; *rules*; an attribute
    `failure_class` (`memory`, `timeout` and `resource_exhaustion` are short names); our
    timeout, a dead worker process, a program's kill for memory (Linux), SIGKILL, and
    exit codes 124, 126, 127; the code of the error (SQLSTATE, the numbers of SQLite,
    MySQL and MongoDB, the codes of AWS, gRPC and SMTP), its status of HTTP, its
    `errno`, its class; words of the message, or at the end of the output; other signals
    and exit codes.

    A class of errors that is raised for much, such as `ValueError` or
    `OperationalError`, is a guess: so the errors below it are asked first, those of an
    `ExceptionGroup` too. A group in which one failure is permanent is permanent.

    Args:
        error: The error of an attempt, of its program or of a timeout.
        output: The output of the attempt, if the error does not have it.
        rules: The user's own, which come first.
    """
    name = of_rules(error, rules, output)
    if name:
        return FailureClass(name, "a rule of yours")
    return _judged(error, output) or FailureClass("unknown", sure=False)


def of_rules(error: BaseException, rules: Iterable[Rule], output: str = "") -> str:
    """Return the class of the first of *rules* that matches *error*; or ""."""

    def text() -> str:
        return _text_of(error, output)

    return next((rule.name for rule in rules if rule.holds(error, text)), "")


# -- what was raised ---------------------------------------------------------------


def _judged(
    error: BaseException, output: str = "", *, in_group: bool = False
) -> FailureClass | None:
    """Return the class that *error* itself tells; *in_group*: not by other groups."""
    try:
        return _said_by(error) or _of_error(error, output, in_group=in_group)
    except BaseException as raised:  # the user's code may raise
        if _may_be_of_signal(raised):
            raise
        return None


def _said_by(error: BaseException) -> FailureClass | None:
    """Return the class that *error* states itself, by its attribute."""
    own = getattr(error, "failure_class", None)
    if isinstance(own, FailureClass):
        return own
    if isinstance(own, str) and own in CLASSES:
        return FailureClass(own, f"{type(error).__name__} says so")
    return None


def _of_error(
    error: BaseException, output: str, *, in_group: bool
) -> FailureClass | None:
    if isinstance(error, TaskTimeoutError):
        return FailureClass("timeout_error", "its own timeout")
    if isinstance(error, AttemptLostError):
        return FailureClass("system_error", "its worker died")
    if isinstance(error, ProgramFailedError):
        return _of_program(error, output)
    if isinstance(error, TaskFailedError):
        return _of_told(error, output)
    guess, messages = None, [output]
    for link in _chain(error):
        if in_group and isinstance(link, BaseExceptionGroup):
            continue
        judged = _of_one(link)
        if judged is not None and judged.sure:
            return judged
        guess = guess or judged
        messages.insert(0, _message_of(link))
    # The last error with a class counts, since it is the error itself.
    spoken = _of_text("\n".join(messages)) if guess is None else None
    return guess or spoken or _of_parts(type(error).__name__)


def _of_told(error: TaskFailedError, output: str) -> FailureClass | None:
    """Classify an error that was raised elsewhere, of which only texts are known."""
    name, message = error.type.rpartition(".")[2], error.message[-_MOST_TEXT:]
    line = f"{error.type}: {message}" if error.type else message
    text = f"{error.traceback}\n{line}\n{output}"
    judged = None
    if _RUNS_PROGRAMS.search(error.traceback[-_MOST_TEXT:]):
        judged = _of_no_program(name)
    if message == "timed out":
        # In the words of a socket.
        judged = FailureClass("network_error", "a timeout of a connection")
    judged = judged or _by_told_number(error.type, message) or _of_names([name])
    if judged is not None and judged.sure:
        return judged
    cls = getattr(builtins, name, None)
    guess = _of_type(cls, message) if isinstance(cls, type) else None
    if guess is not None and guess.sure:
        return guess
    return _of_text(text) or judged or guess or _of_parts(name)


def _by_told_number(name: str, message: str) -> FailureClass | None:
    """Classify by a code or a system error number in *message*, of class *name*."""
    return _of_code(by_told_code(name, message)) or _of_errno(_errno_in(message))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, the errors that it holds, and those that it was raised from."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST_CAUSES:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        below = [getattr(link, word, None) for word in _WORDS_BELOW]
        below.extend((*link.args[:_MOST_ARGUMENTS], link.__cause__))
        # The context of our own errors is an internal matter.
        is_after = link.__cause__ is None and not link.__suppress_context__
        if is_after and not isinstance(link, TaskorchError):
            below.append(link.__context__)
        waiting.extend(one for one in below if isinstance(one, BaseException))


def _of_group(error: BaseExceptionGroup[BaseException]) -> FailureClass | None:
    """
    Return the class of a group of errors: of the one least likely to pass on a retry.

    If one of them fails again, the whole group does. Of a large group some are read,
    and one of each class of errors first.
    """
    members = list(leaves(error))
    kinds = {type(each): each for each in reversed(members)}
    if len(members) > _MOST_MEMBERS:
        members = [*kinds.values(), *members][:_MOST_MEMBERS]
    classes = [_judged(each, in_group=True) for each in members]
    judged = [one for one in classes if one is not None and one.name != "unknown"]
    judged.sort(key=lambda one: (not one.sure, one.transient))
    if not judged:
        return None
    is_one = len({one.name for one in judged}) == 1 and len(kinds) <= _MOST_MEMBERS
    return attrs.evolve(judged[0], sure=judged[0].sure and is_one)


def _of_one(error: BaseException) -> FailureClass | None:
    """Classify *error* itself, not the errors that it was raised from."""
    if isinstance(error, BaseExceptionGroup):
        return _of_group(error)
    if isinstance(error, subprocess.CalledProcessError):
        return _of_called(error)
    if _is_remote(error):
        return _of_text(_message_of(error))
    judged = _said_by(error) or _of_code(by_code(error))
    if judged is not None:
        return judged
    message, names = _message_of(error), list(_names_of(error))
    status = None if _NO_STATUS.intersection(names) else _status_of(error)
    judged = None if status is None else _of_status(status)
    if status == _FORBIDDEN and _PACED.search(f"{names[0]} {message}"):
        return FailureClass("network_error", "a rate that is limited")
    # The numbers of these classes are not error numbers of the system.
    is_own = type(error).__module__ == "urllib.error" or _OWN_NUMBERS.intersection(
        names
    )
    if judged is None and isinstance(error, OSError) and not is_own:
        judged = _of_no_program(names[0]) if _is_of_program(error) else None
        number = _errno_in(message) if error.errno is None else error.errno
        judged = judged or _of_errno(number)
    if judged is not None:
        return judged
    if isinstance(error, TimeoutError) and (
        message == "timed out" or _is_of_network(error)
    ):
        # In the words of a socket.
        return FailureClass("network_error", "a timeout of a connection")
    judged = _of_code(by_told_code(names[0], message)) or _of_names(names)
    judged = judged or _of_type(type(error), message)
    if judged is not None and not judged.sure and not _SAYS_LITTLE.isdisjoint(names):
        judged = _of_words(message) or judged
    return judged


def _of_code(by: ByCode | None) -> FailureClass | None:
    return None if by is None else FailureClass(*by)


def _of_called(error: subprocess.CalledProcessError) -> FailureClass | None:
    """Classify the failure of a program that the work itself started."""
    written = [error.stderr, error.stdout]
    texts = [
        one.decode("utf-8", "replace") if isinstance(one, bytes) else one
        for one in written
    ]
    tails = [text[-_MOST_OUTPUT:] if isinstance(text, str) else "" for text in texts]
    return _of_ended(error.returncode, tails)


def _is_of_program(error: OSError) -> bool:
    """Return whether *error* was raised because a program could not start."""
    trace = error.__cause__
    return _last_module(error) == "subprocess" or (
        trace is not None
        and _is_remote(trace)
        and _RUNS_PROGRAMS.search(_message_of(trace)) is not None
    )


def _is_remote(error: BaseException) -> bool:
    """Return whether *error* holds the traceback of another process as text."""
    return type(error).__name__.endswith("RemoteTraceback")


def _of_no_program(name: str) -> FailureClass | None:
    if name != "FileNotFoundError":
        return None
    return FailureClass("import_error", "there is no such program")


def _of_parts(name: str) -> FailureClass | None:
    """Classify by the words that the *name* of an error class consists of."""
    for failure, parts in _BY_PART:
        if parts.search(name):
            return FailureClass(failure, name, sure=False)
    return None


def _of_names(names: Iterable[str]) -> FailureClass | None:
    for name in names:
        word = name.rpartition(".")[2]
        class_name = _BY_NAME.get(word)
        if class_name is not None:
            return FailureClass(class_name, name, sure=word not in _SAYS_LITTLE)
    return None


def _of_type(cls: type, message: str) -> FailureClass | None:
    name = cls.__name__
    if issubclass(cls, AssertionError):
        if _differ_in_numbers(message):
            return FailureClass("calculation_error", f"{name} between two numbers")
        return FailureClass("logic_error", name)
    if issubclass(cls, ValueError) and re.search(_MATHS, message):
        return FailureClass("calculation_error", f"{name} of mathematics")
    if issubclass(cls, BlockingIOError):
        return FailureClass("system_error", name)
    for base, class_name in _BY_TYPE:
        if issubclass(cls, base):
            return FailureClass(class_name, name, sure=base not in _WIDE)
    return None


def _of_errno(number: int | None) -> FailureClass | None:
    if number is None or number not in errno.errorcode:
        return None
    class_name = _BY_ERRNO.get(number, "system_error")
    return FailureClass(class_name, errno.errorcode[number])


def _of_status(status: int) -> FailureClass | None:
    """Return the class of an HTTP status, if it is one of a failure."""
    evidence = f"status {status} of HTTP"
    if status in (401, 403, 407):
        return FailureClass("permission_error", evidence)
    if status in (408, 425, 429) or 500 <= status <= 599:  # noqa: PLR2004 - RFC 9110
        return FailureClass("network_error", evidence)
    if 400 <= status <= 499:  # noqa: PLR2004 - RFC 9110
        return FailureClass("logic_error", evidence)
    return None


def _status_of(error: BaseException) -> int | None:
    for holder in (error, *(getattr(error, word, None) for word in _REPLIES)):
        for name in ("status_code", "status", "http_status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and _STATUSES[0] <= value <= _STATUSES[1]:
                return int(value)
    return None


def _is_of_network(error: BaseException) -> bool:
    """Return whether a module for networking raised *error*."""
    return _last_module(error) in _NETWORKING


def _last_module(error: BaseException) -> str:
    """Return the name of the package of the module that raised *error*."""
    trace = error.__traceback__
    last = ""
    while trace is not None:
        last = trace.tb_frame.f_globals.get("__name__", "") or ""
        trace = trace.tb_next
    return last.partition(".")[0]


def _names_of(error: BaseException) -> Iterator[str]:
    if isinstance(error, TaskFailedError):
        yield error.type
    for cls in type(error).__mro__:
        yield cls.__name__


def _message_of(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as raised:  # the user's `__str__` may raise
        if _may_be_of_signal(raised):
            raise
        return ""
    return text[-_MOST_TEXT:]


def _may_be_of_signal(raised: BaseException) -> bool:
    """Return whether a signal, such as that of Ctrl-C, may have raised it."""
    return not isinstance(raised, Exception) and current_thread() is main_thread()


def _errno_in(text: str) -> int | None:
    match = re.search(r"\[Errno (\d{1,4})\]", text[-_MOST_TEXT:])
    return None if match is None else int(match[1])


def _differ_in_numbers(message: str) -> bool:
    """Return whether the *message* of an assertion compares numbers with fractions."""
    match = _TWO_NUMBERS.search(message[:_MOST_TEXT])
    if match is None:
        return False
    one, other = (match[1], match[2]) if match[1] else (match[3], match[4])
    return any("." in number or "e" in number.lower() for number in (one, other))


# -- programs ----------------------------------------------------------------------


def _result_of(error: BaseException) -> ProgramResult | None:
    result = getattr(error, "result", None)
    return result if isinstance(result, ProgramResult) else None


def _text_of(error: BaseException, output: str) -> str:
    """Return the message of *error* with all output that it holds."""
    result = _result_of(error)
    written = "" if result is None else f"{result.stdout_tail}\n{result.stderr_tail}"
    trace = error.traceback if isinstance(error, TaskFailedError) else ""
    return f"{_message_of(error)}\n{trace}\n{written}\n{output}"


def _of_unstarted(error: ProgramFailedError) -> FailureClass | None:
    cause = error.__cause__
    missing = "No such file" in error.message or isinstance(cause, FileNotFoundError)
    if missing or "not found" in error.message:
        return FailureClass("import_error", "there is no such program")
    failure_class = None if cause is None else _of_one(cause)
    return failure_class or _of_text(error.message)


def _of_program(error: ProgramFailedError, output: str) -> FailureClass | None:
    if isinstance(error, MemoryLimitError):
        return FailureClass("memory_error", "it passed its limit of memory")
    result = _result_of(error)
    if result is None:
        return _of_unstarted(error)
    if result.exceeded:
        name = _BY_LIMIT.get(result.exceeded, "system_error")
        return FailureClass(name, f"it passed its limit, {result.exceeded}")
    if result.oom_killed:
        return FailureClass("memory_error", "Linux killed it for want of memory")
    texts = (result.stderr_tail, result.stdout_tail, output)
    return _of_ended(result.exit_code, texts)


def _of_ended(code: int, texts: Iterable[str]) -> FailureClass | None:
    """Classify a program that ended with *code* and wrote *texts*."""
    number = -code if code < 0 else code - 128 if code > 128 else 0  # noqa: PLR2004
    if (code < 0 and number in _CERTAIN_SIGNALS) or code in _CERTAIN_CODES:
        return _of_exit(code, number)
    spoken = [each for each in map(_spoken_in, texts) if each is not None]
    ended = _of_exit(code, number)
    best = max(spoken, key=lambda each: each.level, default=None)
    if best is None or (best.level <= SUMMARY and ended is not None):
        return ended or (None if best is None else best.failure)
    return best.failure


def _of_exit(code: int, number: int) -> FailureClass | None:
    class_name = _BY_SIGNAL.get(number)
    if class_name is not None:
        # A code above 128 is less sure than a signal: a program may choose it.
        return FailureClass(class_name, signal.Signals(number).name, sure=code < 0)
    class_name = _BY_CODE.get(code)
    return None if class_name is None else FailureClass(class_name, f"exit code {code}")


# -- text --------------------------------------------------------------------------


@attrs.frozen
class _Spoken:
    """Class of a failure that a text names, and its level of evidence; see `_words`."""

    failure: FailureClass
    level: int


def _of_text(text: str) -> FailureClass | None:
    """Classify by the last error in *text*, or by its most telling words."""
    spoken = _spoken_in(text)
    return None if spoken is None else spoken.failure


def _spoken_in(text: str) -> _Spoken | None:
    near = _spoken_at(lines_of(text[-_MOST_TEXT:]))
    if (near is not None and near.level > HINT) or len(text) <= _MOST_TEXT:
        return near
    # A clean-up after the failure may have written the last lines.
    return _spoken_at(lines_of(text[-_MOST_OUTPUT:]))


def _spoken_at(lines: list[str]) -> _Spoken | None:
    match = strongest(lines)
    raised, place = _raised_in(lines)
    if raised is not None and (
        match is None
        or match.row.level < ERROR
        or (match.row.level == ERROR and match.place <= place)
    ):
        return _Spoken(raised, ERROR)
    if match is None:
        return None
    evidence = f"“{match.text}” in the output"
    failure = FailureClass(match.row.name, evidence, sure=match.row.level == CAUSE)
    return _Spoken(failure, match.row.level)


def _raised_in(lines: list[str]) -> tuple[FailureClass | None, int]:
    """
    Find the last error in *lines*; return its class and its place.

    If its class is only a guess, the errors that it was raised from come first.
    """
    guess, where = None, -1
    is_link = True
    for place in range(len(lines) - 1, -1, -1):
        line = _IN_GROUP.sub("", lines[place])
        is_link = is_link or _LINK.match(line) is not None
        if not is_link:
            continue
        raised = _RAISED.match(line)
        if raised is None:
            coded = _of_code(by_told_code("", line[:_MOST_LINE]))
            if coded is None:
                continue
            return coded, place
        name, message = raised[1], raised[2] or ""
        judged = _of_line(name, message)
        word = name.rpartition(".")[2]
        if any(map(_RUNS_PROGRAMS.search, lines[max(0, place - _FRAME) : place])):
            judged = _of_no_program(word) or judged
        if judged is None:
            continue
        judged = attrs.evolve(judged, evidence=f"{word} in the output")
        if judged.sure:
            return judged, place
        if guess is None:
            guess, where = judged, place
        is_link = False
    return guess, where


def _of_line(name: str, message: str) -> FailureClass | None:
    """Classify by the last line of a traceback: the *name* of a class, a message."""
    judged = _by_told_number(name, message)
    word = name.rpartition(".")[2]
    cls = getattr(builtins, word, None)
    if judged is None and word in _SAYS_LITTLE:
        judged = _of_words(message)
    judged = judged or _of_names([word])
    if judged is None and isinstance(cls, type) and issubclass(cls, BaseException):
        judged = _of_type(cls, message)
    if judged is None and cls is None:
        judged = _of_words(message) or _of_parts(word)
    return judged


def _of_words(message: str) -> FailureClass | None:
    """Classify by the words of a message, if they are those of an error."""
    match = strongest(lines_of(message))
    if match is None or match.row.level < ERROR:
        return None
    return FailureClass(match.row.name, match.text, sure=False)


# -- the tables --------------------------------------------------------------------

#: The line with which a traceback ends, of pytest's too, which begins with an E.
_RAISED: Final = re.compile(
    r"(?:E {1,8}|\[ERROR\] |Exception in thread \"[^\"]{0,80}\" |Caused by: |Uncaught "
    r"|\s{0,8}(?:FAILED|ERROR) \S{1,300} - |ERROR: LoadError: |ERROR: |\s{4,8})?"
    r"((?:[A-Za-z_]\w{0,80}[.:]{1,2}){0,8}[A-Z](?=\w*[a-z])\w{0,80}"
    r"(?:Error|Exception|Exit|Interrupt|Timeout|Expired|Warning|Failure|Detected)?)"
    r"(?: \[\w+\])?(?:: (.{0,500})|\(\d{0,9}\))?$"
)
_MATHS: Final = r"math domain error|math range error|expected a (?:non|positive)"
_NUMBER: Final = r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
#: `expected 1.5, got 1.4`, `assert 1.5 == 1.4`, `1.5 != 1.4 within 7 places`.
_TWO_NUMBERS: Final = re.compile(
    rf"expected:? {_NUMBER}\D{{1,40}}?{_NUMBER}|{_NUMBER} (?:==|!=|is not|vs\.?) "
    rf"(?:approx\()?{_NUMBER}",
    re.IGNORECASE,
)
_STATUSES: Final = (400, 599)
#: Attributes in which HTTP clients keep the reply.
_REPLIES: Final = ("response", "meta", "resp")
#: Words of services that refuse too frequent requests with 403.
_FORBIDDEN: Final = 403
_PACED: Final = re.compile(r"rate.?limit|throttl|too.?many.?requests", re.IGNORECASE)
#: Errors whose `code` is that of a reply that their own server would send.
_NO_STATUS: Final = frozenset(
    {"HttpProcessingError", "PayloadEncodingError", "ContentEncodingError"}
    | {"ContentLengthError", "TransferEncodingError", "SystemExit"}
)
#: The line of a traceback in which Python starts a program.
_RUNS_PROGRAMS: Final = re.compile(r"in _execute_child$", re.MULTILINE)
#: The characters that Python writes before each line of a group of errors.
_IN_GROUP: Final = re.compile(r"^ {2,40}\| (?=[A-Z])")
#: The words that Python writes between an error and the error that it caused.
_LINK: Final = re.compile(
    r"The above exception was the direct cause|During handling of the above exception"
)
_OWN_NUMBERS: Final = frozenset({"SSLError", "gaierror", "herror"})
_NETWORKING: Final = frozenset(
    {"socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "httpcore"}
    | {"ftplib", "smtplib", "imaplib", "poplib", "telnetlib", "aiohttp", "anyio"}
)

#: Classes of failures by the name of the exception, if its base class says less. Of
#: those of databases PEP 249 says little more; see `_SAYS_LITTLE`.
_BY_NAME: Final[Mapping[str, str]] = dict(
    each(
        {
            "import_error": "ModuleNotFoundError ImportError DistributionNotFound "
            "PackageNotFoundError VersionConflict PackagesNotFoundError "
            "ClassNotFoundException NoClassDefFoundError",
            "permission_error": "PermissionError PermissionDenied AccessDenied "
            "AuthenticationError NoCredentialsError PartialCredentialsError "
            "RefreshError DefaultCredentialsError AuthenticationException "
            "Unauthorized AuthenticationFailed SMTPAuthenticationError "
            "NotAuthenticated PermissionDeniedError UnauthorizedError ForbiddenError "
            "AccessDeniedException",
            "memory_error": "MemoryError OutOfMemoryError _ArrayMemoryError",
            "timeout_error": "TimeoutExpired TaskTimeoutError SoftTimeLimitExceeded "
            "Timeout QueryCanceled ExecutionTimeout TimeLimitExceeded "
            "TimeoutException",
            "network_error": "ReadTimeout ConnectTimeout PoolTimeout gaierror herror "
            "SSLError SSLCertVerificationError URLError HTTPException "
            "RemoteDisconnected IncompleteRead ProtocolError RemoteProtocolError "
            "MaxRetryError NewConnectionError NetworkError ConnectError "
            "TransportError IncompleteReadError ConnectionError ConnectionTimeout "
            "ProxyError ReadError ChunkedEncodingError ContentLengthError "
            "TransferEncodingError ClientPayloadError ClientConnectionError "
            "ClientConnectorError ServerDisconnectedError ConnectionClosedError "
            "StreamLostError StreamClosedError AMQPConnectionError "
            "NoValidConnectionsError AutoReconnect NetworkTimeout "
            "ServerSelectionTimeoutError EndpointConnectionError "
            "ConnectionClosedByBroker WriteTimeout APIConnectionError APITimeoutError "
            "RateLimitError SSHException TransientError SMTPServerDisconnected "
            "SMTPConnectError ServiceUnavailable TooManyRequests BadGateway "
            "GatewayTimeout WriteError UnknownHostException ConnectException "
            "SocketException SocketTimeoutException ReadTimeoutError "
            "ConnectTimeoutError NameResolutionError CondaHTTPError",
            "system_error": "EOFError BrokenProcessPool BrokenExecutor "
            "BrokenThreadPool AttemptLostError OperationalError InterfaceError "
            "InternalError DeadlockDetected",
            "calculation_error": "LinAlgError StatisticsError ArithmeticException "
            "SingularException",
            "logic_error": "ProgrammingError IntegrityError DataError "
            "NotSupportedError CriteriaNotMetError UnwantedResultError ComponentError "
            "MissingSchema InvalidSchema InvalidURL TooManyRedirects "
            "ParamValidationError DuplicateKeyError BadRequestError BadRequest "
            "NotFoundError UnprocessableEntityError NullPointerException "
            "IllegalArgumentException IllegalStateException ClassCastException "
            "NumberFormatException IndexOutOfBoundsException "
            "ArrayIndexOutOfBoundsException AssertionFailedError ReferenceError "
            "RangeError NoMethodError ArgumentError JSONDecodeError ScannerError "
            "ParserError ValidationError",
        }
    )
)
#: Classes of failures by words in an unknown exception's name, the surest first.
_BY_PART: Final = tuple(
    (name, re.compile(parts))
    for name, parts in (
        ("memory_error", r"Memory"),
        (
            "permission_error",
            r"Permission|Forbidden|Unauthori[sz]ed|Auth(?!or)|Denied|NotAllowed|Credential",
        ),
        (
            "network_error",
            (
                r"Temporar|Transient|Retryable|Overload|Connect|Network|Socket|DNS|Brokers"
                r"|Unavailable|Throttl|TooMany|RateLimit"
            ),
        ),
        ("timeout_error", r"Time(?:d)?Out|Timeout|DeadlineExceeded"),
        (
            "calculation_error",
            r"Overflow|DivideByZero|Convergence|Singular|Numeric|Precision",
        ),
        (
            "system_error",
            r"Deadlock|WorkerLost|QueueFull|Busy|Capacity|Executor|Lock(?:ed|Timeout)|Crash|Disk",
        ),
        (
            "import_error",
            r"Import|(?:Module|Package|Gem|Class|Plugin|Library)NotFound|DependencyN",
        ),
        (
            "logic_error",
            (
                r"Syntax|Pars[ei]|Type|Value|[Vv]alid|Assert|Argument|Config|NotFound|Schema"
                r"|Bad|Decod|Undefined|Unsupported|Malformed|Missing|Duplicate|Violation"
                r"|Exists|Mismatch|Unknown"
            ),
        ),
    )
)
#: Names of exceptions with many meanings: the message counts before them.
_SAYS_LITTLE: Final = frozenset(
    {"OperationalError", "OSError", "IOError", "ValueError", "TypeError"}
    | {"AssertionError", "HTTPError", "WorkerLostError", "ImproperlyConfigured"}
    | {"SystemError", "SystemExit", "Forbidden", "ProgrammingError", "InternalError"}
    | {"RuntimeError", "Exception", "ArgumentError", "IllegalStateException"}
    | {"AttributeError", "WebDriverException", "CalledProcessError"}
    | {"IntegrityError", "DataError", "InterfaceError", "NotSupportedError"}
    | {"DatabaseError", "ResponseError"}
)
#: Classes of failures by the exception, subclasses first.
_BY_TYPE: Final[tuple[tuple[type, str], ...]] = (
    (ImportError, "import_error"),
    (PermissionError, "permission_error"),
    (MemoryError, "memory_error"),
    (ConnectionError, "network_error"),
    (TimeoutError, "timeout_error"),
    (FileNotFoundError, "logic_error"),
    (FileExistsError, "logic_error"),
    (IsADirectoryError, "logic_error"),
    (NotADirectoryError, "logic_error"),
    (ArithmeticError, "calculation_error"),
    (RecursionError, "logic_error"),
    (NotImplementedError, "logic_error"),
    (OSError, "system_error"),
    (SystemError, "system_error"),
    (SystemExit, "system_error"),
    (KeyboardInterrupt, "system_error"),
    (SyntaxError, "logic_error"),
    (NameError, "logic_error"),
    (AttributeError, "logic_error"),
    (LookupError, "logic_error"),
    (TypeError, "logic_error"),
    (ValueError, "logic_error"),
    (AssertionError, "logic_error"),
    (StopIteration, "logic_error"),
    (StopAsyncIteration, "logic_error"),
    (BufferError, "logic_error"),
)
#: Exceptions with many meanings.
_WIDE: Final = (OSError, ValueError, TypeError, SystemExit)


def _errnos(name: str, words: str) -> Iterator[tuple[int, str]]:
    for word in words.split():
        number: Any = getattr(errno, word, None)
        if number is not None:
            yield number, name


_BY_ERRNO: Final[Mapping[int, str]] = dict(
    [
        *_errnos("permission_error", "EACCES EPERM EROFS EKEYEXPIRED EKEYREJECTED"),
        *_errnos("memory_error", "ENOMEM"),
        *_errnos("timeout_error", "ETIME"),
        *_errnos("calculation_error", "EDOM ERANGE"),
        *_errnos("import_error", "ENOEXEC ELIBACC ELIBBAD"),
        *_errnos(
            "logic_error",
            "ENOENT EISDIR ENOTDIR EEXIST EINVAL ENAMETOOLONG ELOOP ENOTEMPTY EXDEV "
            "EBADF ENOTTY E2BIG EMLINK ESPIPE EILSEQ ENOSYS EOPNOTSUPP ENOTSOCK "
            "EDESTADDRREQ EPROTONOSUPPORT EPROTOTYPE EAFNOSUPPORT EISCONN EOVERFLOW",
        ),
        *_errnos(
            "network_error",
            "ECONNREFUSED ECONNRESET ECONNABORTED ENETUNREACH ENETDOWN ENETRESET "
            "EHOSTUNREACH EHOSTDOWN ETIMEDOUT EADDRNOTAVAIL EADDRINUSE ENOTCONN "
            "ESHUTDOWN EPROTO EPIPE EALREADY EINPROGRESS ENONET ENOLINK "
            "ECOMM ENOBUFS",
        ),
        *_errnos(
            "system_error",
            "ENOSPC EDQUOT EMFILE ENFILE EIO EAGAIN EBUSY ETXTBSY EDEADLK ENXIO "
            "ENODEV ESTALE ENOLCK ECHILD ESRCH EINTR EFBIG ECANCELED EUCLEAN "
            "EOWNERDEAD ENOTRECOVERABLE EBADMSG EREMOTEIO",
        ),
    ]
)
#: Classes of failures by signal, for the signals that point to one cause.
_BY_SIGNAL: Final[Mapping[int, str]] = {
    signal.SIGKILL: "memory_error",
    signal.SIGXCPU: "timeout_error",
    signal.SIGALRM: "timeout_error",
    signal.SIGFPE: "calculation_error",
    signal.SIGXFSZ: "system_error",
    signal.SIGSEGV: "system_error",
    signal.SIGBUS: "system_error",
    signal.SIGILL: "system_error",
    signal.SIGABRT: "system_error",
    signal.SIGTERM: "system_error",
    signal.SIGHUP: "system_error",
    signal.SIGINT: "system_error",
    signal.SIGQUIT: "system_error",
    signal.SIGPIPE: "system_error",
    signal.SIGSYS: "permission_error",
}
_CERTAIN_SIGNALS: Final = frozenset({signal.SIGKILL, signal.SIGXCPU, signal.SIGFPE})
#: Of `timeout` and of shells; the others are those of `sysexits.h`.
_BY_CODE: Final[Mapping[int, str]] = {
    124: "timeout_error",
    126: "permission_error",
    127: "import_error",
    64: "logic_error",
    65: "logic_error",
    68: "network_error",
    69: "network_error",
    70: "logic_error",
    71: "system_error",
    74: "system_error",
    75: "system_error",
    76: "network_error",
    77: "permission_error",
}
#: Classes of failures by the limit that ended a program.
_BY_LIMIT: Final[Mapping[str, str]] = {
    "cpu_seconds": "timeout_error",
    "group": "permission_error",
    "memory_mb": "memory_error",
}
_CERTAIN_CODES: Final = frozenset({124, 126, 127})
