"""`taskorch serve FILE.py`: the orchestrator of a file or a module, over HTTP."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType

from taskorch._limits import SIGNAL_SECONDS
from taskorch._orchestrator import TaskOrchestrator
from taskorch.cli import OK
from taskorch.cli._serve import _logging, token_of
from taskorch.cli._terminal import on_signals
from taskorch.errors import InvalidTaskError
from taskorch.runtime._interrupts import SLICE

#: What a function is called that makes the orchestrator, if no variable has it.
_MAKES = "make_orchestrator"


def serve_file(args: argparse.Namespace) -> int:
    """Start the orchestrator of a file or module, and serve it until a signal comes."""
    # They are of extras, and take their time.
    from taskorch.frontends.service import create_app, serve  # noqa: PLC0415

    token, made = token_of(args)
    what = args.module if args.file is None else args.file
    orch = orchestrator_named(what) if args.file is None else orchestrator_of(what)
    asked = threading.Event()
    port = 8080 if args.port is None else args.port
    with on_signals(lambda *_: asked.set(), signal.SIGTERM), _logging("INFO"):
        orch.start()
        try:
            with serve(create_app(orch, token=token, page=True), port=port) as api:
                print(f"{what}: {api.url}")
                api.token = token if made else None
                print(f"page: {api.page}")
                if made:
                    print(f"token: {token}")
                for status in orch.schedules.list():
                    print(status)
                sys.stdout.flush()
                while not asked.wait(SLICE):
                    pass
        except BaseException:
            # Ctrl-C, or a port that is taken.
            orch.stop(drain=False, timeout=SIGNAL_SECONDS)
            raise
        orch.stop(drain=False, timeout=SIGNAL_SECONDS)
    return OK


def orchestrator_of(path: Path) -> TaskOrchestrator:
    """
    The orchestrator that a file makes, which is not started.

    Raises:
        InvalidTaskError: It makes none, or several.
        OSError: It cannot be read.
    """
    return _found_in(_loaded(path), path)


def orchestrator_named(words: str) -> TaskOrchestrator:
    """
    The orchestrator that a module has, as `app:orch`, which is not started.

    What stands behind the colon is one, or a function that makes one; without a colon,
    the module is looked through as a file is.

    Raises:
        InvalidTaskError: There is none.
    """
    name, _, inside = words.partition(":")
    # What the user has here, as `python -m` does.
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # What it needs itself is missed as it says.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        msg = f"there is no module {name!r}, here or among what is installed"
        raise InvalidTaskError(msg, hint="-m package.module:orch") from None
    except (TypeError, ValueError) as error:
        msg = f"{words!r} is no MODULE:NAME: {error}"
        raise InvalidTaskError(msg, hint="-m package.module:orch") from None
    if not inside:
        return _found_in(module, words)
    made: object = getattr(module, inside, None)
    if callable(made) and not isinstance(made, TaskOrchestrator):
        made = made()
    if not isinstance(made, TaskOrchestrator):
        msg = f"{words} is no orchestrator, and no function that makes one"
        raise InvalidTaskError(msg, hint=f"{inside} = TaskOrchestrator(…)")
    return made


def _found_in(module: ModuleType, path: object) -> TaskOrchestrator:
    found = [
        value for value in vars(module).values() if isinstance(value, TaskOrchestrator)
    ]
    found = list({id(orch): orch for orch in found}.values())
    make = getattr(module, _MAKES, None)
    if not found and callable(make):
        made = make()
        found = [made] if isinstance(made, TaskOrchestrator) else []
    if len(found) != 1:
        many = "no orchestrator" if not found else f"{len(found)} orchestrators"
        msg = f"{path} makes {many}, and one is served"
        hint = f"orch = TaskOrchestrator(…), or a function {_MAKES}() that returns it"
        raise InvalidTaskError(msg, hint=hint)
    return found[0]


def _loaded(path: Path) -> ModuleType:
    path = path.absolute()
    name = path.stem
    if not path.is_file() or not name.isidentifier():
        # What is missing is said as the system says it.
        path.open("rb").close()
        msg = f"{path.name} is no module of Python"
        raise InvalidTaskError(msg, hint="such as app.py")
    # What it makes again and again is imported by its name.
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{path.name} is no module of Python"
        raise InvalidTaskError(msg, hint="such as app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
