"""`taskorch serve FILE.py`: the orchestrator of a file or a module, over HTTP."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.inside import Inside
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._target import check_settings, orchestrators_in
from taskorch.ext.command_line._terminal import (
    hosts_of,
    logged,
    on_signals,
    tell_served,
    token_of,
)
from taskorch.kit.described import declared
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import SLICE, interrupt
from taskorch.kit.limits import SIGNAL_SECONDS

_LOG: Final = log_of(__name__)
#: The seconds after which the command reports that it waits.
_SOON: Final = 1.0
#: The first lines of files that a tool has written.
_NOT_THEIRS: Final = (
    str(Path(__file__).parents[2]),
    sysconfig.get_path("stdlib"),
    # Code that was made at run time.
    "<",
)
#: The name of the function that makes the orchestrator, if no variable has it.
_MAKES = "make_orchestrator"


def serve_file(args: argparse.Namespace) -> int:
    """Start the orchestrator of a file or module, and serve it until a signal comes."""
    # These modules belong to extras and take time.
    from taskorch.ext.service import create_app, serve  # noqa: PLC0415

    token, is_new = token_of(args)
    source = args.module or ", ".join(map(str, args.files))
    port = 8080 if args.port is None else args.port
    asked = threading.Event()
    waiting = ProbesWhileWaiting(str(source), port, args.listen)

    with on_signals(_ending(asked, waiting), signal.SIGTERM), logged("INFO"):
        orch: TaskOrchestrator | None = None
        try:
            with waiting:
                orch, modules = (
                    orchestrator_of(args.files)
                    if args.files
                    else orchestrator_named(args.module)
                )
                check_settings(orch, str(source))
                # Messages at the start have links, too.
                at = args.url or f"http://127.0.0.1:{port}"
                orch._teller("a service").page = at  # noqa: SLF001 - as `create_app` says it
                orch.start()
        except KeyboardInterrupt:
            if orch is not None:
                # Tasks that were kept may have begun.
                Inside(orch).end_service()
            if not asked.is_set():
                raise
            return OK
        try:
            tools = args.allow if args.mcp else None
            app = create_app(
                orch,
                token=token,
                functions=_decorated(modules) if args.functions else None,
                hosts=hosts_of(args),
                agents=args.agents,
                page=True,
                mcp=tools,
                tokens=args.tokens,
                url=args.url,
            )
            with serve(app, host=args.listen, port=port) as api:
                # Tools for language models are at /mcp there, if there are any.
                tell_served(args, str(source), api, token, is_new=is_new)
                for status in orch.schedules.list():
                    if not status.paused:
                        with suppress(InvalidTaskError):
                            orch.schedules.next_work(status.name)
                    print(orch.schedules.explain(status.name), flush=True)
                while not asked.wait(SLICE):
                    if not orch.health().live:
                        break
                else:
                    # Workers elsewhere bring their results meanwhile.
                    Inside(orch).end_service()
        except BaseException:
            # The cause is Ctrl-C, or a port that is in use.
            orch.stop(drain=False, timeout=SIGNAL_SECONDS)
            raise
        health = orch.health()
        has_ended = not asked.is_set() and not health.live
        why = next((c.detail for c in health.checks if c.status == "failed"), "")
        with suppress(TaskorchError):
            orch.stop(drain=False, timeout=SIGNAL_SECONDS)
        if has_ended:
            print(f"taskorch: {source} has ended by itself: {why}", file=sys.stderr)
            return FAILED
    return OK


def _ending(asked: threading.Event, waiting: ProbesWhileWaiting) -> Callable[..., None]:
    """Return what a signal does: the first asks for the end, the second hurries it."""

    def end(*_: object) -> None:
        is_second = asked.is_set()
        asked.set()
        # A process that waits for its turn does not look whether it was asked.
        if is_second or not waiting.is_over:
            interrupt()

    return end


def _decorated(modules: Iterable[ModuleType]) -> dict[str, Callable[..., Any]]:
    """
    Return the functions that the modules decorate with `@task`, by name.

    Raises:
        InvalidTaskError: Two have the same name.
    """
    functions: dict[str, Callable[..., Any]] = {}
    for module in modules:
        for name, value in vars(module).items():
            if not isinstance(value, FunctionType) or declared(value) is None:
                continue
            if value.__module__ != module.__name__:
                continue
            if functions.setdefault(name, value) is not value:
                both = f"{functions[name].__module__} and {module.__name__}"
                msg = f"{both} both decorate a function {name!r} with @task"
                raise InvalidTaskError(msg, hint="give one of them another name")
    return functions


class ProbesWhileWaiting:
    """
    A server that answers probes at a port while a block waits, maybe for long.

    `/livez` answers that the process lives, all other paths that it waits.
    """

    def __init__(self, source: str, port: int, host: str = "127.0.0.1") -> None:
        self._host = host
        self.is_over = False
        self._what = source
        self._port = port
        self._server: Any = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(_SOON, self._begin)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self.is_over = True
            server = self._server
        if server is not None:
            server.stop()

    def _begin(self) -> None:
        from taskorch.ext.service import serve  # noqa: PLC0415 - of an extra
        from taskorch.ext.service._waiting import waiting_app  # noqa: PLC0415

        with self._lock:
            if self.is_over:
                return
            try:
                app = waiting_app(self._what)
                self._server = serve(app, host=self._host, port=self._port)
            except OSError as error:
                # It is raised again, and ends the command, once the service runs.
                _LOG.warning("port %d cannot be had yet: %s", self._port, error)
                return
            url = self._server.url
        _LOG.info("%s waits for its start; %s/livez answers", self._what, url)


@contextmanager
def _placing() -> Iterator[None]:
    """
    Put the user's file and line before the message of an error in the block.

    Raises:
        InvalidTaskError: The code of the user has raised an error.
    """
    try:
        yield
    except TaskorchError as error:
        place = _place_of(error)
        if place:
            error.message = f"{place}: {error.message}"
        raise
    except Exception as error:
        place = _place_of(error)
        if not place:
            raise
        text = (
            str(error).partition(" (")[0] if isinstance(error, SyntaxError) else error
        )
        msg = f"{place}: {type(error).__name__}: {text}"
        raise InvalidTaskError(msg, hint="mend it there") from error


def _place_of(error: BaseException) -> str:
    """Return the file and line of the innermost frame of the user, or ""."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not (file.startswith(_NOT_THEIRS) or "site-packages" in file):
            place = f"{file}:{line}"
    return place


def orchestrator_of(
    paths: Sequence[Path],
) -> tuple[TaskOrchestrator, list[ModuleType]]:
    """
    Return the orchestrator that one of several files makes, without starting it.

    The other files import it from that one, by the name of the file.

    Args:
        paths: The files, and folders of files.

    Returns:
        The orchestrator, and the modules.

    Raises:
        InvalidTaskError: They make none, or several.
        OSError: One cannot be read.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files_in(path)))
    by_name: dict[str, Path] = {}
    for file in files:
        other = by_name.setdefault(file.stem, file)
        if other != file or file.stem in sys.stdlib_module_names:
            whose = (
                f"that of {other}" if other != file else "that of a module of Python"
            )
            msg = f"{file}: its name is {whose}"
            raise InvalidTaskError(msg, hint="give it another")
    # A file imports what it needs of another by the name of that file.
    sys.path[:0] = dict.fromkeys(str(file.parent) for file in files)
    with _placing():
        modules = [_loaded(file) for file in files]
        return _found_in(modules, ", ".join(map(str, paths))), modules


def _files_in(path: Path) -> list[Path]:
    """
    Return the file *path*, or the files of the folder that are no part of another.

    Raises:
        InvalidTaskError: There are none in the folder.
    """
    path = path.absolute()
    if not path.is_dir():
        return [path]
    files = [each for each in sorted(path.glob("*.py")) if each.name[0] not in "._"]
    if not files:
        msg = f"there is no file of Python in {path}"
        raise InvalidTaskError(msg, hint="such as app.py")
    return files


def orchestrator_named(words: str) -> tuple[TaskOrchestrator, list[ModuleType]]:
    """
    Return the orchestrator of a module, as `app:orch`, without starting it.

    The name behind the colon is an orchestrator, or a function that makes one; without
    a colon, the module is searched as a file is.

    Returns:
        The orchestrator, and the module.

    Raises:
        InvalidTaskError: There is none.
    """
    name, _, inside = words.partition(":")
    # The working directory is importable, as with `python -m`.
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A missing module that the file imports is reported by its own name.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            with _placing():
                raise
        msg = f"there is no module {name!r}, here or among what is installed"
        raise InvalidTaskError(msg, hint="-m package.module:orch") from None
    except (TypeError, ValueError) as error:
        with _placing():
            if _place_of(error):
                raise
        msg = f"{words!r} is no MODULE:NAME: {error}"
        raise InvalidTaskError(msg, hint="-m package.module:orch") from None
    except Exception:
        with _placing():
            raise
    if not inside:
        with _placing():
            return _found_in([module], words), [module]
    orch: object = getattr(module, inside, None)
    if callable(orch) and not isinstance(orch, TaskOrchestrator):
        with _placing():
            orch = orch()
    if not isinstance(orch, TaskOrchestrator):
        msg = f"{words} is no orchestrator, and no function that makes one"
        raise InvalidTaskError(msg, hint=f"{inside} = TaskOrchestrator(…)")
    return orch, [module]


def _found_in(modules: Sequence[ModuleType], path: str) -> TaskOrchestrator:
    defined = [orch for module in modules for orch in orchestrators_in(vars(module))]
    orchestrators = list({id(orch): orch for orch in defined}.values())
    if not orchestrators:
        candidates = [
            make()
            for module in modules
            if callable(make := getattr(module, _MAKES, None))
        ]
        orchestrators = [
            each for each in candidates if isinstance(each, TaskOrchestrator)
        ]
    if len(orchestrators) != 1:
        count = len(orchestrators)
        many = f"{count} orchestrators" if orchestrators else "no orchestrator"
        msg = f"{path}: it makes {many}, and one is served"
        hint = f"orch = TaskOrchestrator(…), or a function {_MAKES}() that returns it"
        if orchestrators and len(modules) > 1:
            hint = "make it in one file, and import it in the others"
        raise InvalidTaskError(msg, hint=hint)
    return orchestrators[0]


def _loaded(path: Path) -> ModuleType:
    """
    Return the module of a file, which is loaded once, whoever imports it first.

    Raises:
        InvalidTaskError: Its name is not possible for a module.
        OSError: It cannot be read.
    """
    name = path.stem
    if not path.is_file() or not name.isidentifier():
        # The error of the system says that the file is missing.
        path.open("rb").close()
        msg = f"{path.name} is no module of Python"
        raise InvalidTaskError(msg, hint="such as app.py")
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{path.name} is no module of Python"
        raise InvalidTaskError(msg, hint="such as app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
