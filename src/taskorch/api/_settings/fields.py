"""
The settings of an orchestrator, each described once, where its field stands.

The arguments of `TaskOrchestrator` and of its kin, their checks, the settings of files
and of variables, and their page are taken from here. What each of them means stands in
the docstring of `TaskOrchestrator`.

Decision: options-and-settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, cast

import attrs

from taskorch.core.engine import BUILT_IN, with_gpus_found
from taskorch.core.executors._futures import FuturesExecutor
from taskorch.core.executors._processes._attempts import Processes
from taskorch.core.kernel import KernelConfig
from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_count, check_seconds, is_number
from taskorch.kit.limits import (
    CONCURRENCY,
    GRACE_SECONDS,
    KEEP_FINISHED,
    KEEP_FINISHED_MB,
    KEEP_LOGS_MB,
    MAX_KEPT_MB,
    MONITOR_SECONDS,
    NS,
)
from taskorch.kit.members import has
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import in_our_words, meant, unknown_option
from taskorch.model import Resources
from taskorch.policies import PriorityQueue
from taskorch.policies._kinds import (
    POLICIES,
    Policies,
    PolicySettings,
    check_policies,
)
from taskorch.protocols import (
    AttemptExecutor,
    DurableJournal,
    Journal,
    SetsGrace,
    WaitsForBetter,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from datetime import timedelta
    from inspect import Signature

    from opentelemetry.metrics import MeterProvider  # noqa: TC004 - not there for all
    from opentelemetry.trace import TracerProvider  # noqa: TC004 - nor is this

    from taskorch.ext.governance import ConstitutionalRuntime
    from taskorch.kit.extension import Extension


class SimulatedSettings(PolicySettings, total=False):
    """The settings of `Simulation`, for type checkers."""

    resources: Resources | Mapping[str, Any] | None
    concurrency: int
    keep_finished: int
    unknown_capability: Literal["refuse", "wait"]
    grace: float | timedelta


class SettingsOptions(SimulatedSettings, total=False):
    """The settings of `TaskOrchestrator`, for type checkers."""

    journal: str | os.PathLike[str] | Journal | None
    durability: Literal["power", "process"]
    executors: Mapping[str, Executor | AttemptExecutor[Any] | int] | None
    keep_finished_mb: float | None
    keep_logs_mb: float | None
    max_queued: int | None
    stop_timeout: float | timedelta | None
    rerun_failed: bool
    enforce: bool
    seed: int | None
    monitor_interval: float | timedelta
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    governance: ConstitutionalRuntime | str | os.PathLike[str] | None
    extensions: Iterable[Extension]


class Written(NamedTuple):
    """
    The written form of a setting that is a plain value.

    Attributes:
        needs: The expected values, in words.
        example: An example, as in a file.
        types: The types that TOML gives it.
    """

    needs: str
    example: str
    types: tuple[type, ...]


class SettingKind(NamedTuple):
    """
    A kind of settings: the check of its values, and their written form.

    Attributes:
        check: Parses a value, given its name, or raises InvalidTaskError.
        written: The form in a file or a variable; None: it is no plain value.
    """

    check: Callable[[str, Any], Any]
    written: Written | None = None


class Description(NamedTuple):
    """
    The description of one setting.

    Attributes:
        name: The argument.
        default: The default value.
        kind: The kind of its values.
        none: Whether it may be None.
        simulated: Whether `Simulation` takes it, too.
    """

    name: str
    default: Any
    kind: SettingKind
    none: bool
    simulated: bool

    def checked(self, value: Any) -> Any:
        """
        Parse *value* as a setting and return it.

        Raises:
            InvalidTaskError: The setting does not take it.
        """
        if value is None and self.none:
            return None
        return self.kind.check(self.name, value)


# -- kinds ---------------------------------------------------------------------------


def _count(least: int) -> SettingKind:
    def check(name: str, value: object) -> object:
        check_count(name, value, least=least)
        return value

    return SettingKind(
        check, Written(f"a whole number of {least} or more", "10", (int,))
    )


def _seconds(*, zero: bool = True) -> SettingKind:
    def check(name: str, value: object) -> float:
        return check_seconds(name, value, zero=zero)

    least = "0 or more" if zero else "more than 0"
    return SettingKind(
        check, Written(f"a number of seconds, {least}", "30", (int, float))
    )


def _word(*words: str) -> SettingKind:
    def check(name: str, value: object) -> object:
        if not is_text(value) or value not in words:
            msg = f"{name}: {show(value)} is not {' or '.join(map(repr, words))}"
            raise InvalidTaskError(msg, hint=meant(value, words) or None)
        return value

    quoted = [f'"{word}"' for word in words]
    return SettingKind(check, Written(" or ".join(quoted), quoted[0], (str,)))


def _megabytes(name: str, value: object) -> object:
    if not is_number(value, 0, MAX_KEPT_MB):
        msg = f"{name} is a number from 0 to {MAX_KEPT_MB:,} or None, not {show(value)}"
        raise InvalidTaskError(msg)
    return value


def _flag(name: str, value: object) -> object:
    if not isinstance(value, bool):
        msg = f"{name} is True or False, not {show(value)}"
        raise InvalidTaskError(msg)
    return value


def _integer(name: str, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{name} is an integer or None, not {show(value)}"
        raise InvalidTaskError(msg)
    return value


def _journal(name: str, value: object) -> object:
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if not path or "\0" in str(path):
            msg = f"{name}={show(path)} is no path: name a file, such as 'runs.db'"
            raise InvalidTaskError(msg)
    elif isinstance(value, type) or not isinstance(value, Journal):
        msg = f"{name}={show(value)} is no journal, and no path of one"
        raise InvalidTaskError(msg, hint="journal='runs.db', or None for memory only")
    return value


def _processes(setting: str, executor: Any) -> Processes:
    if isinstance(executor, Processes):
        return executor
    check_count(setting, executor, least=1)
    return Processes(executor)


def _executors(setting: str, value: object) -> dict[str, AttemptExecutor[Any]]:
    """Return the executors of *value*, each as one of attempts."""
    usual = "executors={'cpu': ProcessPoolExecutor()}"
    if not isinstance(value, Mapping):
        msg = f"{setting} is a mapping of names to executors, not {show(value)}"
        raise InvalidTaskError(msg, hint=usual)
    checked: dict[str, AttemptExecutor[Any]] = {}
    for name, executor in value.items():
        if not is_text(name) or not name.strip():
            msg = f"{setting}: a name is needed, not {show(name)}"
            raise InvalidTaskError(msg, hint=usual)
        if name == "process" and type(executor) in (int, Processes):
            checked[name] = _processes(f"{setting}: process", executor)
            continue
        if name in BUILT_IN:
            msg = f"{setting}: the name {name!r} is taken"
            hint = "choose another name"
            if name == "process":
                hint = "a number says how many worker processes: {'process': 4}"
            raise InvalidTaskError(msg, hint=hint)
        if isinstance(executor, type):
            msg = f"{setting}: {name} is the class {executor.__name__}, not an executor"
            raise InvalidTaskError(msg, hint=f"call it: {executor.__name__}()")
        if isinstance(executor, AttemptExecutor):
            checked[name] = executor
            continue
        if not callable(getattr(executor, "submit", None)):
            msg = f"{setting}: {name}={show(executor)} has no submit()"
            raise InvalidTaskError(
                msg,
                hint="any concurrent.futures.Executor will do, or an AttemptExecutor",
            )
        checked[name] = FuturesExecutor(name, executor)
    return checked


def _governance(name: str, value: object) -> object:
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if not path or "\0" in str(path):
            msg = f"{name}={show(path)} is no path: name a file of policies"
            raise InvalidTaskError(msg)
    elif isinstance(value, type) or not hasattr(value, "validate_operation"):
        msg = f"{name}={show(value)} is no ConstitutionalRuntime, and no path of a file"
        raise InvalidTaskError(msg, hint=f"{name}='policies.yaml'")
    return value


def _extensions(name: str, value: object) -> object:
    from taskorch.kit.extension import check_extensions  # noqa: PLC0415 - few have some

    return check_extensions(name, value)


#: A kind without a check of its own: these values are checked when they are used.
_PART: Final = SettingKind(lambda _, value: value)
_JOURNAL: Final = SettingKind(
    _journal, Written("the path of a file, or `postgresql://…`", '"runs.db"', (str,))
)
_GOVERNANCE: Final = SettingKind(
    _governance,
    Written("the path of a file of policies", '"policies.yaml"', (str,)),
)
_MEGABYTES: Final = SettingKind(
    _megabytes, Written(f"a number from 0 to {MAX_KEPT_MB:,}", "32", (int, float))
)
_FLAG: Final = SettingKind(_flag, Written("true or false", "true", (bool,)))
_INTEGER: Final = SettingKind(_integer, Written("a whole number", "1", (int,)))
_AMOUNTS: Final = SettingKind(
    lambda name, value: Resources.of(with_gpus_found(value), name, named=True),
    Written(
        "a table of names and amounts, each 0 or more",
        "{ cpu = 4, memory_mb = 2048 }",
        (dict,),
    ),
)
_WORKERS: Final = SettingKind(
    _executors,
    Written(
        "a table that says how many worker processes there are at the most",
        "{ process = 4 }",
        (dict,),
    ),
)

_KEY: Final = "taskorch setting"


def _setting(
    kind: SettingKind, *, none: bool = False, simulated: bool = False
) -> dict[str, Any]:
    """The metadata of the field of a setting: see `Description`."""
    return {_KEY: (kind, none, simulated)}


@attrs.define(frozen=True, kw_only=True, eq=False, repr=False)
class Settings(Policies):
    """The checked settings of an orchestrator, with its policies."""

    journal: str | os.PathLike[str] | Journal | None = attrs.field(
        default=None, metadata=_setting(_JOURNAL, none=True)
    )
    durability: Literal["power", "process"] = attrs.field(
        default="power", metadata=_setting(_word("power", "process"))
    )
    resources: Resources | None = attrs.field(
        default=None, metadata=_setting(_AMOUNTS, none=True, simulated=True)
    )
    concurrency: int = attrs.field(
        default=CONCURRENCY, metadata=_setting(_count(1), simulated=True)
    )
    executors: dict[str, AttemptExecutor[Any]] | None = attrs.field(
        default=None, metadata=_setting(_WORKERS, none=True)
    )
    keep_finished: int = attrs.field(
        default=KEEP_FINISHED, metadata=_setting(_count(0), simulated=True)
    )
    keep_finished_mb: float | None = attrs.field(
        default=KEEP_FINISHED_MB, metadata=_setting(_MEGABYTES, none=True)
    )
    keep_logs_mb: float | None = attrs.field(
        default=KEEP_LOGS_MB, metadata=_setting(_MEGABYTES, none=True)
    )
    max_queued: int | None = attrs.field(
        default=None, metadata=_setting(_count(0), none=True)
    )
    unknown_capability: Literal["refuse", "wait"] = attrs.field(
        default="refuse", metadata=_setting(_word("refuse", "wait"), simulated=True)
    )
    stop_timeout: float | None = attrs.field(
        default=None, metadata=_setting(_seconds(), none=True)
    )
    grace: float = attrs.field(
        default=GRACE_SECONDS, metadata=_setting(_seconds(), simulated=True)
    )
    rerun_failed: bool = attrs.field(default=False, metadata=_setting(_FLAG))
    enforce: bool = attrs.field(default=False, metadata=_setting(_FLAG))
    seed: int | None = attrs.field(default=None, metadata=_setting(_INTEGER, none=True))
    monitor_interval: float = attrs.field(
        default=MONITOR_SECONDS, metadata=_setting(_seconds(zero=False))
    )
    tracer_provider: TracerProvider | None = attrs.field(
        default=None, metadata=_setting(_PART, none=True)
    )
    meter_provider: MeterProvider | None = attrs.field(
        default=None, metadata=_setting(_PART, none=True)
    )
    governance: Any = attrs.field(
        default=None, metadata=_setting(_GOVERNANCE, none=True)
    )
    extensions: tuple[Any, ...] = attrs.field(
        default=(), metadata=_setting(SettingKind(_extensions))
    )

    @classmethod
    def of(
        cls,
        owner: type,
        arguments: SettingsOptions | SimulatedSettings,
        descriptions: Mapping[str, Description],
    ) -> Self:
        """
        The settings among the *arguments*, and the usual ones.

        Args:
            owner: The class that takes them.
            arguments: The given arguments.
            descriptions: The descriptions of all settings.

        Raises:
            TypeError: There is no such setting: it names the one that was meant.
            InvalidTaskError: A value is invalid, or two do not go together.
        """
        ours = in_our_words(owner.__name__, arguments, descriptions)
        refuse_unknown(owner, ours, descriptions)
        values = {name: descriptions[name].checked(it) for name, it in ours.items()}
        # The test is for None, because empty values are false, and yet are meant.
        for name in POLICIES:
            if values.get(name) is None:
                values.pop(name, None)
        if values.get("max_queued") is not None:
            if "queue" in values:
                msg = "max_queued= is for the default queue: let your own queue admit"
                raise InvalidTaskError(msg)
            values["queue"] = PriorityQueue(max_queued=values["max_queued"])
        settings = cls(**values)
        if settings.durability != "power" and not isinstance(
            settings.journal, str | os.PathLike
        ):
            msg = "durability= is for a journal that is given by its path"
            hint = "SqliteJournal(path, durability=…) has its own"
            raise InvalidTaskError(msg, hint=hint)
        if settings.keep_logs_mb not in (0, KEEP_LOGS_MB) and not isinstance(
            settings.journal, str | os.PathLike | DurableJournal
        ):
            msg = "keep_logs_mb= is for a journal, beside which logs are kept"
            raise InvalidTaskError(msg, hint="journal='runs.db', or keep_logs_mb=0")
        check_policies(settings)
        handler = settings.retry_handler
        if "grace" not in values and has(handler, SetsGrace):
            grace = check_seconds("grace", handler.timeout_grace_period)
            settings = attrs.evolve(settings, grace=grace)
        return settings

    def of_kernel(self, unknown: tuple[str, ...] = ()) -> KernelConfig:
        """
        Return the settings of the kernel.

        Args:
            unknown: Resources of which it is not known how much of them there is.
        """
        router = self.router
        return KernelConfig(
            concurrency=self.concurrency,
            grace_ns=int(self.grace * NS),
            keep_finished=self.keep_finished,
            refuse_unknown=self.unknown_capability == "refuse",
            unknown=unknown,
            waits_for_better=has(router, WaitsForBetter) and router.waits_for_better,
        )


#: All settings by their names, which are those of the arguments.
SETTINGS: Final[Mapping[str, Description]] = {
    field.name: Description(field.name, None, _PART, none=True, simulated=True)
    if field.name in POLICIES
    else Description(field.name, field.default, *field.metadata[_KEY])
    for field in attrs.fields(Settings)
}
SIMULATED: Final[Mapping[str, Description]] = {
    name: setting for name, setting in SETTINGS.items() if setting.simulated
}


def refuse_unknown(
    owner: type, arguments: Iterable[str], settings: Container[str] = SETTINGS
) -> None:
    """
    Refuse *arguments* with an unknown name.

    Raises:
        TypeError: There is one: it names the argument of *owner* that was meant.
    """
    for name in arguments:
        if name not in settings:
            raise unknown_option(owner.__name__, name, signature_of(owner).parameters)


#: The parameter for settings in the signature of a constructor.
_IN_PLACE_OF: Final = {
    "Unpack[SettingsOptions]": (SETTINGS, SettingsOptions),
    "Unpack[SimulatedSettings]": (SIMULATED, SimulatedSettings),
}


def signature_of(owner: type) -> Signature:
    """The signature of *owner*, where each setting stands by its name."""
    from inspect import Parameter, signature  # noqa: PLC0415 - for whoever looks at it

    parameters: list[Parameter] = []
    constructor = signature(cast("Any", owner).__init__)
    for parameter in list(constructor.parameters.values())[1:]:
        if parameter.annotation not in _IN_PLACE_OF:
            parameters.append(parameter)
            continue
        settings, typed = _IN_PLACE_OF[parameter.annotation]
        types: Mapping[str, Any] = typed.__annotations__
        parameters += [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=setting.default,
                annotation=getattr(types.get(name), "__forward_arg__", Parameter.empty),
            )
            for name, setting in settings.items()
        ]
    return constructor.replace(parameters=parameters)
