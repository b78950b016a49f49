"""
The settings of an orchestrator, from a file and from the environment.

A setting is an argument of `TaskOrchestrator` that is a plain value. It comes from the
variable `TASKORCH_NAME`, or else from the profile that was chosen, or else from the
rest of the file. Each is checked where it stands, so that an error can say where that
is. No error shows a text that it refuses: somebody may have put a secret there.

Decision: options-and-settings.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.api._settings.fields import SETTINGS as ALL_SETTINGS, Description, Written
from taskorch.errors import InvalidTaskError
from taskorch.kit.address import is_address
from taskorch.kit.limits import MAX_AMOUNT
from taskorch.kit.vocabulary import in_our_words, nearest
from taskorch.model import OUR_VARIABLES, ProgramVariables

_FILE: Final = "taskorch.toml"
_PROJECT: Final = "pyproject.toml"
#: The table of the settings in that file.
_TABLE: Final = ("tool", "taskorch")
_PREFIX: Final = "TASKORCH_"
#: The variables for the file, and for one of its profiles.
_CONFIG: Final = "TASKORCH_CONFIG"
_PROFILE: Final = "TASKORCH_PROFILE"
#: The variable for the token of a service: every user of the machine would see an
#: argument.
TOKEN_VARIABLE: Final = "TASKORCH_TOKEN"  # noqa: S105 - the name of a variable
#: Variables that are no settings: for programs of ours, for the service, and for
#: limits.
_OTHERS: Final = (TOKEN_VARIABLE, ProgramVariables.CGROUP, *OUR_VARIABLES)
#: Variables that Kubernetes sets in every container, if there is a service with our
#: name.
_OF_A_SERVICE: Final = re.compile(
    r"TASKORCH_(\w+_)?(SERVICE_HOST|(SERVICE_)?PORT(_\w+)?)"
)
_PROFILES: Final = "profiles"
#: The table of schedules, by name.
_SCHEDULES: Final = "schedules"
#: A statement with several lines ends at one of these.
_CLOSING: Final = ("]", "}", '"""', "'''")
#: The text for None, which TOML lacks.
_NONE: Final = "none"
#: Settings that name files, relative to the file of settings, not to the working
#: directory.
_PATHS: Final = ("journal", "governance")
_FLAGS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def _value(text: str) -> object:
    """Return *text* read as a value of TOML, or *text* itself if it is none."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def _table(text: str) -> object:
    """`cpu=4,memory_mb=2048` as a table."""
    return _value(text if text.startswith("{") else f"{{{text}}}")


def _flag(text: str) -> object:
    return _FLAGS.get(text.lower(), text)


#: Functions that read the text of a variable, by the types of TOML.
_READERS: Final[Mapping[type, Callable[[str], object]]] = {
    str: str,
    bool: _flag,
    dict: _table,
    int: _value,
}
#: The settings that a file may have, by the names of the arguments.
SETTINGS: Final[Mapping[str, tuple[Description, Written]]] = {
    name: (each, each.kind.written)
    for name, each in ALL_SETTINGS.items()
    if each.kind.written is not None
}


@attrs.frozen
class Setting:
    """
    The value of one argument, with its source.

    Attributes:
        name: The argument.
        value: The value.
        source: Where that stands: `taskorch.toml:3`, or a variable.
    """

    name: str
    value: Any
    source: str


@attrs.frozen
class Configuration:
    """
    The settings that hold.

    Attributes:
        file: Where the file is; None: there is none.
        profile: The chosen profile.
        settings: The settings with a value, by their names.
        schedules: The documents of schedules, by their names.
    """

    file: Path | None
    profile: str | None
    settings: Mapping[str, Setting]
    schedules: Mapping[str, Any] = attrs.Factory(dict)

    def arguments(self, passed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of an orchestrator; *passed* ones come first."""
        passed = in_our_words("from_config()", passed, SETTINGS)
        arguments = {name: setting.value for name, setting in self.settings.items()}
        arguments |= passed
        if arguments.get("journal", "") is None:
            # Both settings are about the journal, and there is to be none.
            for name in {"durability", "keep_logs_mb"}.difference(passed):
                arguments.pop(name, None)
        return arguments


def read_configuration(
    path: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """
    Read the settings that hold here.

    Args:
        path: The file; None is what `TASKORCH_CONFIG` names, or else the nearest
            `taskorch.toml`, or `pyproject.toml` with a table `tool.taskorch`, in the
            working directory or above it.
        profile: Which table of `profiles` lies over the file; None is what
            `TASKORCH_PROFILE` names.
        environ: The variables; None are those of the process.

    Raises:
        InvalidTaskError: There is no such setting or profile, or a value is invalid. It
            says where, of all that is wrong.
        OSError: The file cannot be read.
    """
    # An empty variable counts as not set.
    variables = {
        name: text
        for name, text in (os.environ if environ is None else environ).items()
        if name.startswith(_PREFIX) and text
    }
    path = path or variables.get(_CONFIG)
    file = _nearest(Path.cwd()) if path is None else _File.read(Path(path))
    profile = profile or variables.get(_PROFILE)
    faults = _SettingFaults()
    settings: dict[str, Setting] = {}
    if file is not None:
        settings |= file.settings(profile, faults)
    elif profile is not None:
        msg = f"there is no profile {profile!r}: there is no file that has any"
        faults.add(msg, f"write [{_PROFILES}.{profile}] in {_FILE}")
    for setting in _of_variables(variables, faults):
        settings[setting.name] = setting
    schedules = {} if file is None else file.schedules(faults)
    faults.refuse()
    return Configuration(
        None if file is None else file.path, profile, settings, schedules
    )


class _SettingFaults:
    """The collected faults, each with a remedy."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def add(self, msg: str, hint: str) -> None:
        """Note *msg*, once."""
        self._found[msg] = hint

    def refuse(self) -> None:
        """
        End here if anything was noted.

        Raises:
            InvalidTaskError: With all that was.
        """
        if self._found:
            *before, (msg, hint) = self._found.items()
            lines = [*(f"{each} ({remedy})" for each, remedy in before), msg]
            raise InvalidTaskError("\n".join(lines), hint=hint)


def as_variable(name: str, written: Written) -> str:
    """An example of the setting *name* as a variable."""
    example = written.example.strip('"{} ').replace(" ", "")
    return f"{_PREFIX}{name.upper()}={example}"


def _of_variables(
    variables: Mapping[str, str], faults: _SettingFaults
) -> Iterator[Setting]:
    names = {f"{_PREFIX}{name.upper()}": name for name in SETTINGS}
    for variable, text in sorted(variables.items()):
        name = names.get(variable)
        if name is not None:
            written = SETTINGS[name][1]
            meaning = _READERS[written.types[0]](text.strip())
            how = as_variable(name, written)
            meaning = _checked(name, meaning, variable, how, faults)
            yield Setting(name, meaning, variable)
        elif variable not in (_CONFIG, _PROFILE, *_OTHERS) and not (
            _OF_A_SERVICE.fullmatch(variable)
        ):
            msg = f"there is no setting {variable} (in the environment)"
            faults.add(msg, _meant(variable, (*names, _CONFIG, _PROFILE)))


def _checked(
    name: str, value: object, source: str, how: str, faults: _SettingFaults
) -> Any:
    """Return *value* as the setting *name* needs it; note a fault if it is wrong."""
    setting, written = SETTINGS[name]
    if setting.none and value == _NONE:
        return None
    if not _fits(setting, written, value):
        msg = f"{source}: {name} is {written.needs}, not {_shown(value)}"
        faults.add(msg, f"as in {how}")
    return value


def _fits(setting: Description, written: Written, value: Any) -> bool:
    if type(value) not in written.types:
        return False
    try:
        setting.checked(value)
    except InvalidTaskError:
        return False
    return True


def _shown(value: object) -> str:
    """Return the kind of *value* in a word; of a number also its value."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "so large a number" if abs(value) > MAX_AMOUNT else f"{value:g}"
    if isinstance(value, str):
        return "this text" if value else "an empty text"
    if isinstance(value, dict):
        return "this table"
    return "a list" if isinstance(value, list) else "a time"


def _meant(name: str, names: Iterable[str]) -> str:
    """A hint: the one of *names* that *name* may mean, or all of them."""
    choices = tuple(names)
    close = nearest(name, choices)
    if close:
        return f"did you mean {close}?"
    return f"there are {', '.join(choices)}" if choices else "there are none"


# -- the file ------------------------------------------------------------------------


def _nearest(folder: Path) -> _File | None:
    """The file that holds in *folder*."""
    for each in (folder, *folder.parents):
        for path in (each / _FILE, each / _PROJECT):
            if path.is_file():
                file = _File.read(path)
                if path.name == _FILE or file.table is not None:
                    return file
    return None


@attrs.frozen
class _File:
    """A file of settings, as it was read."""

    path: Path
    #: Our table; None: the file has none.
    table: Mapping[str, Any] | None
    #: The place of the table in the file, and the lines of all keys there.
    at: tuple[str, ...]
    lines: Mapping[tuple[str, ...], int]

    @classmethod
    def read(cls, path: Path) -> _File:
        path = path.absolute()
        try:
            text = path.read_bytes().decode().replace("\r\n", "\n")
            content = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            why = str(error) or type(error).__name__
            if isinstance(error, RecursionError):
                why = "it is nested too deeply"
            msg = f"{_in_short(path)} is no TOML: {why}"
            raise InvalidTaskError(msg, hint="mend it there") from None
        if path.name != _PROJECT:
            return cls(path, content, (), _lines(text))
        tool = content.get("tool")
        table = tool.get("taskorch") if isinstance(tool, dict) else None
        if table is None:
            return cls(path, None, _TABLE, {})
        file = cls(path, table, _TABLE, _lines(text))
        if not isinstance(table, dict):
            msg = f"{file.where()}: tool.taskorch is no table"
            raise InvalidTaskError(msg, hint="write [tool.taskorch]")
        return file

    def settings(
        self, profile: str | None, faults: _SettingFaults
    ) -> dict[str, Setting]:
        """Return the settings of the file, replaced by those of *profile*."""
        table = dict(self.table or {})
        profiles = table.pop(_PROFILES, {})
        table.pop(_SCHEDULES, None)
        settings = self._settings(table, (), faults)
        if not isinstance(profiles, dict):
            msg = f"{self.where(_PROFILES)}: {_PROFILES} is a table of tables"
            faults.add(msg, f"write [{self._header(_PROFILES)}.ci]")
            return settings
        # Each profile is checked, not only the chosen one.
        by_name: dict[str, dict[str, Setting]] = {}
        for name, each in profiles.items():
            if not isinstance(each, dict):
                msg = f"{self.where(_PROFILES, name)}: a profile is a table"
                faults.add(msg, f"write [{self._header(_PROFILES)}.{name}]")
                each = {}  # noqa: PLW2901 - nothing can be read of it
            by_name[name] = self._settings(each, (_PROFILES, name), faults)
        if profile is not None and profile not in by_name:
            msg = f"{_in_short(self.path)} has no profile {profile!r}"
            faults.add(msg, _meant(profile, by_name))
        return settings | by_name.get(profile or "", {})

    def schedules(self, faults: _SettingFaults) -> dict[str, Any]:
        """Return the table of schedules."""
        schedules = (self.table or {}).get(_SCHEDULES, {})
        if not isinstance(schedules, dict):
            msg = f"{self.where(_SCHEDULES)}: {_SCHEDULES} is a table of tables"
            faults.add(msg, f"write [{self._header(_SCHEDULES)}.nightly]")
            return {}
        return schedules

    def _settings(
        self, table: Mapping[str, Any], at: tuple[str, ...], faults: _SettingFaults
    ) -> dict[str, Setting]:
        settings: dict[str, Setting] = {}
        for name, value in table.items():
            source = self.where(*at, name)
            if name not in SETTINGS:
                msg = f"{source}: there is no setting {name!r}"
                faults.add(msg, _meant(name, (*SETTINGS, _PROFILES)))
                continue
            how = f"{name} = {SETTINGS[name][1].example}"
            meant = _checked(name, value, source, how, faults)
            if name in _PATHS and isinstance(meant, str) and not is_address(meant):
                meant = str(self.path.parent / meant)
            settings[name] = Setting(name, meant, source)
        return settings

    def where(self, *keys: str) -> str:
        """The place in the file: its path, and the line where that is written."""
        line = self.lines.get((*self.at, *keys))
        return _in_short(self.path) + (f":{line}" if line else "")

    def _header(self, name: str) -> str:
        return ".".join((*self.at, name))


def _in_short(path: Path) -> str:
    """*path*, relative to the working directory if it is in it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """
    The lines where the keys of *text* begin, which is TOML.

    Each statement is read by itself, below the latest header: it ends with the first
    line up to which it can be read. If that is a later one, it closes something.
    """
    first_lines: dict[tuple[str, ...], int] = {}
    header, statement, begin = "", "", 1
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        if number > begin and not any(mark in line for mark in _CLOSING):
            continue
        try:
            part = tomllib.loads(header + statement)
        except tomllib.TOMLDecodeError:
            continue
        for keys in _keys(part):
            first_lines.setdefault(keys, begin)
        if statement.lstrip().startswith("["):
            header = statement
        statement, begin = "", number + 1
    return first_lines


def _keys(table: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        yield (name,)
        inner = value[-1] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            for keys in _keys(inner):
                yield (name, *keys)
