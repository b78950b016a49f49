"""
`taskorch doctor`: checks of this machine and of journals.

It also lists the settings that hold here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import taskorch
from taskorch.api._settings.configuration import SETTINGS, read_configuration
from taskorch.core.executors._programs import _guardian
from taskorch.core.executors._programs._isolation import ways as ways_of_scopes
from taskorch.core.executors.programs import Governor
from taskorch.core.journal import SqliteJournal, open_journal
from taskorch.core.journal._file import WAL_RESET, trouble_of_log
from taskorch.errors import InvalidTaskError, JournalError
from taskorch.ext.command_line import FAILED, OK, version
from taskorch.ext.command_line._terminal import add_json, coloured, line, print_json
from taskorch.ext.views import JournalReader
from taskorch.kit.address import without_password
from taskorch.kit.machine import MEASURED, gpus, machine_amounts, machine_labels
from taskorch.kit.visible import counted, visible
from taskorch.model import LIMITS, ProgramVariables

#: The free bytes of a disk below which there is a warning, and an error.
_LITTLE: Final = 1 << 30
_TOO_LITTLE: Final = 64 << 20
#: The number of open files that is too small for many programs at once.
_FEW_FILES: Final = 1_024
_LIBRARIES: Final = {
    "attrs": "attrs",
    "blinker": "blinker",
    "networkx": "networkx",
    "tenacity": "tenacity",
    "opentelemetry-api": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "pyyaml": "yaml",
    "jsonschema": "jsonschema",
}
_MARK: Final = f"{ProgramVariables.RUN}=".encode()


class DoctorFinding(NamedTuple):
    """A finding about one thing: `ok`, `warning` or `error`."""

    status: str
    name: str
    detail: str
    what_now: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "journals", metavar="JOURNAL", nargs="*", help="look at these, too"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all of each journal, and check every checksum: minutes for a large "
        "one",
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    findings = [
        *_versions(),
        *_machine(),
        _disk(Path.cwd()),
        *_leftovers(),
        *_settings(),
    ]
    for path in args.journals:
        findings += _journal(path, verify=args.verify)
    if args.json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            # Each line has a word, for terminals without colours.
            word = coloured(finding.status, f"{finding.status:7}")
            print(f"{word}  {line(finding.name)}: {line(finding.detail)}")
            if finding.what_now:
                print(f"{'':9}→ {visible(finding.what_now)}")
    return FAILED if any(finding.status == "error" for finding in findings) else OK


def _versions() -> Iterator[DoctorFinding]:
    yield DoctorFinding("ok", "taskorch", f"{version()}, {Path(taskorch.__file__)}")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield DoctorFinding(
        "ok", "python", f"{python}, {sys.executable}, {platform.platform()}"
    )
    sqlite = sqlite3.sqlite_version
    if SqliteJournal(os.devnull).wal_reset_bug:
        advice = "let only taskorch write to it, or use a Python with a newer SQLite"
        yield DoctorFinding("warning", "sqlite", f"{sqlite}: {WAL_RESET}", advice)
    else:
        yield DoctorFinding("ok", "sqlite", sqlite)
    present, missing = [], []
    for name, module in _LIBRARIES.items():
        try:
            is_there = importlib.util.find_spec(module) is not None
        except ImportError:
            is_there = False
        if is_there:
            present.append(f"{name} {_version_of(name)}".rstrip())
        else:
            missing.append(name)
    yield DoctorFinding("ok", "libraries", ", ".join(present))
    if missing:
        yield DoctorFinding("ok", "not installed", ", ".join(missing))


def _version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _machine() -> Iterator[DoctorFinding]:
    has = machine_amounts()
    amounts = [
        f"{has[name]:,g} {name}" if name in has else f"{name} unknown"
        for name in MEASURED
    ]
    yield DoctorFinding("ok", "machine", f"for us: {', '.join(amounts)}")
    yield DoctorFinding("ok", "labels", ", ".join(machine_labels()))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FEW_FILES:
        advice = f"ulimit -n {_FEW_FILES * 4}"
        yield DoctorFinding("warning", "open files", f"{files} at the most", advice)
    else:
        yield DoctorFinding("ok", "open files", f"{_limit(files)} at the most")
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    yield DoctorFinding("ok", "processes", f"{_limit(processes)} at the most")
    yield _gpus()
    yield _limits()
    yield _scopes()
    if sys.platform != "linux":
        why = "what programs leave behind is not looked for here"
        yield DoctorFinding("warning", "platform", f"{sys.platform}: {why}")


def _gpus() -> DoctorFinding:
    """Return the GPUs of this machine, or why there are none."""
    names, models, why = gpus()
    texts = [f"{name}, {model}" for name, model in zip(names, models, strict=True)]
    text = "; ".join([*texts, *([why] if why else [])]) or "none"
    status = "warning" if texts and why else "ok"
    return DoctorFinding(status, "gpus", text if texts else f"none: {why}")


def _limits() -> DoctorFinding:
    """Return the ways to enforce limits of programs, and the missing limits."""
    ways = Governor().ways()
    text = _by_way(ways)
    missing = [name for name in LIMITS if name not in ways]
    if not missing:
        return DoctorFinding("ok", "limits", text)
    advice = (
        "run it in a cgroup of its own (systemd-run --user --scope -p Delegate=yes …), "
        f"or set {ProgramVariables.CGROUP} to the folder of one"
    )
    lacking = f"nothing holds {', '.join(missing)}"
    return DoctorFinding(
        "ok", "limits", "; ".join(filter(None, (text, lacking))), advice
    )


def _scopes() -> DoctorFinding:
    """Return the ways to enforce declared files and sockets of programs."""
    ways = ways_of_scopes()
    missing = [name for name in ("reads", "writes", "network") if name not in ways]
    lacking = f"nothing holds {', '.join(missing)}" if missing else ""
    text = "; ".join(filter(None, (_by_way(ways), lacking)))
    advice = "it needs Linux 6.2, with Landlock and seccomp" if missing else ""
    return DoctorFinding("ok", "scopes", text, advice)


def _by_way(ways: dict[str, str]) -> str:
    """Return the names that each way enforces, in words."""
    return "; ".join(
        f"{way} holds {', '.join(name for name in ways if ways[name] == way)}"
        for way in dict.fromkeys(ways.values())
    )


def _limit(number: int) -> str:
    return "any number" if number == resource.RLIM_INFINITY else f"{number:,}"


def _disk(where: Path) -> DoctorFinding:
    free = shutil.disk_usage(where).free
    text = f"{free / 2**30:,.1f} GiB are free at {where}"
    advice = "make room: a full disk stops all that is durable"
    if free < _TOO_LITTLE:
        return DoctorFinding("error", "disk", text, advice)
    if free < _LITTLE:
        return DoctorFinding("warning", "disk", text, advice)
    return DoctorFinding("ok", "disk", text)


def _leftovers() -> Iterator[DoctorFinding]:
    """Yield programs of ours whose orchestrator has gone."""
    if sys.platform != "linux":
        return
    pids = [pid for pid in _guardian.find(_is_ours) if _is_left(pid)]
    if pids:
        numbers = " ".join(map(str, pids))
        yield DoctorFinding(
            "warning",
            "leftovers",
            f"programs of orchestrators that are gone: {numbers}",
            "the next incarnation of a durable orchestrator ends its own; or look at "
            f"them, and end them: kill {numbers}",
        )
    else:
        yield DoctorFinding("ok", "leftovers", "no program of a dead orchestrator runs")


def _is_ours(pid: int) -> bool:
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return any(entry.startswith(_MARK) for entry in content.split(b"\0"))


def _is_left(pid: int) -> bool:
    """Return whether a program of ours has lost its orchestrator."""
    while _is_ours(pid):
        state = _guardian.state_of(pid)
        if state is None or not state.alive:
            return False
        if state.parent <= 1:
            return True
        pid = state.parent
    return False


def _settings() -> Iterator[DoctorFinding]:
    """Yield the settings of the configuration, each with its source."""
    try:
        configuration = read_configuration()
    except InvalidTaskError as error:
        yield DoctorFinding("error", "configuration", error.message, error.hint or "")
        return
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        yield DoctorFinding("error", "configuration", why, "check the path")
        return
    where = (
        "there is no file" if configuration.file is None else str(configuration.file)
    )
    if configuration.profile is not None:
        where += f", profile {configuration.profile}"
    yield DoctorFinding("ok", "configuration", where)
    for name, setting in configuration.settings.items():
        text = f"{_said(setting.value)} (from {setting.source})"
        if name == "durability" and configuration.arguments({}).get("journal") is None:
            advice = "set journal, or give one where the orchestrator is made"
            yield DoctorFinding("warning", name, f"{text}: without a journal", advice)
            continue
        yield DoctorFinding("ok", name, text)
    defaults = {name: setting.default for name, (setting, _) in SETTINGS.items()}
    others = [
        f"{name} {_said(defaults[name])}"
        for name in SETTINGS
        if name not in configuration.settings and defaults[name] is not None
    ]
    yield DoctorFinding("ok", "by default", ", ".join(others))


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each:g}" for name, each in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _journal(path: str, *, verify: bool) -> Iterator[DoctorFinding]:
    name = f"journal {without_password(path)}"
    try:
        with closing(open_journal(path)) as journal:
            reader = JournalReader(journal)
            owner = reader.owner
            who = "in use" if owner.lives else "not in use"
            said = f"{counted(reader.last, 'event')}, incarnation {owner.epoch}, {who}"
            kept = reader.kept()
            if verify:
                said = f"{counted(journal.verify(), 'event')} checked, {who}"
    except JournalError as error:
        yield DoctorFinding("error", name, error.message, error.hint or "")
        return
    yield DoctorFinding("ok", name, said)
    if kept:
        many = [f"{who} {len(documents):,}" for who, documents in sorted(kept.items())]
        advice = f"those of an extension that is gone: orch.kept({min(kept)!r}).clear()"
        yield DoctorFinding("ok", f"{name}: documents", ", ".join(many), advice)
    if not isinstance(journal, SqliteJournal):
        return
    if journal.held_log:
        yield DoctorFinding("warning", name, trouble_of_log(journal.held_log))
    folder = journal.path.parent
    torn = sorted(folder.glob(f"{journal.path.name}.new-*"))
    if torn and not owner.lives:
        names = ", ".join(each.name for each in torn)
        yield DoctorFinding(
            "warning", name, f"left by a process that was killed: {names}"
        )
    if not os.access(folder, os.W_OK):
        advice = "an orchestrator must be able to write there"
        yield DoctorFinding("warning", name, f"{folder} may not be written", advice)
    if folder.stat().st_dev != Path.cwd().stat().st_dev:
        yield _disk(folder)
