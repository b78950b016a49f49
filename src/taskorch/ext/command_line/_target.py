"""The target of `run` and `simulate`: a file or a module, and its definitions."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from keyword import iskeyword
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api._settings.configuration import Setting, read_configuration
from taskorch.core.inside import Inside
from taskorch.core.workflows import Workflow, WorkflowFunction
from taskorch.core.workflows._functions import checked
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.ext.command_line._terminal import (
    add_parameter,
    pairs,
    parameters_of,
    read_json,
)
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.kit.vocabulary import guess
from taskorch.kit.words import some
from taskorch.model import Task

_DOCUMENTS: Final = (".yaml", ".yml", ".json")
#: The name of the workflow of tasks that come without one.
_NAME: Final = "tasks"


@attrs.frozen
class Target:
    """The workflow to run, and the orchestrator that is defined with it."""

    workflow: Workflow
    orchestrator: TaskOrchestrator | None
    #: The parameters that the document of the workflow leaves open.
    parameters: dict[str, str] = attrs.Factory(dict)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the target."""
    parser.add_argument(
        "target",
        metavar="FILE",
        help="FILE.py, with a Workflow or a list of `tasks`; FILE.py:NAME, "
        "one of several, or a function that makes one; FILE.yaml or FILE.json",
    )
    parser.add_argument(
        "-m", dest="is_module", action="store_true", help="FILE is module:NAME"
    )
    parser.add_argument(
        "--functions",
        metavar="MODULE",
        help="of FILE.yaml: the module with the functions that it calls",
    )
    add_parameter(parser)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for concurrency and resources."""
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="attempts at once, at the most"
    )
    parser.add_argument(
        "--resources",
        metavar="NAME=AMOUNT",
        action="append",
        default=[],
        help="what there is, instead of this machine's cpu and memory_mb",
    )


def limits_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return these arguments as settings of an orchestrator."""
    limits = {"concurrency": args.concurrency, "resources": pairs(args.resources)}
    return {name: value for name, value in limits.items() if value not in (None, {})}


def without_journal(args: argparse.Namespace) -> TaskOrchestrator:
    """Return an orchestrator with these limits that keeps nothing."""
    options = {**limits_of(args), "journal": None}
    return TaskOrchestrator(**read_configuration().arguments(options))


def load(args: argparse.Namespace) -> Target:
    """
    Return the target that the arguments name.

    Raises:
        InvalidTaskError: There is nothing to run there, or more than one thing.
        OSError: The file cannot be read.
    """
    text: str = args.target
    parameters = parameters_of(args.parameters)
    if not args.is_module and Path(text).suffix in _DOCUMENTS:
        workflow = read_document(Path(text), functions_of(args.functions))
        return Target(workflow, None, parameters)
    where, _, name = text.partition(":")
    names = module_of(where, is_module=args.is_module)
    orch = orchestrator_in(names, where)
    work = _workflow(names, name, where)
    if isinstance(work, WorkflowFunction):
        values, parameters = checked(work, parameters), {}
        with _importing(f"{where}:{name}" if name else where):
            work = work(**values)
    return Target(work, orch, parameters)


def orchestrators_in(names: Mapping[str, Any]) -> list[TaskOrchestrator]:
    """Return the orchestrators among the definitions of a file, each once."""
    by_id = {id(o): o for o in names.values() if isinstance(o, TaskOrchestrator)}
    return [*by_id.values()]


def orchestrator_in(names: Mapping[str, Any], where: str) -> TaskOrchestrator | None:
    """
    Return the orchestrator that a file defines, or None.

    Raises:
        InvalidTaskError: It defines several.
    """
    orchestrators = orchestrators_in(names)
    if len(orchestrators) > 1:
        msg = f"{where} defines {len(orchestrators)} orchestrators"
        raise InvalidTaskError(msg, hint="define one in a file")
    return orchestrators[0] if orchestrators else None


def settings_for(place: str, acting: Collection[str]) -> dict[str, Any]:
    """
    Return the *acting* settings of the configuration for a *place*.

    Raises:
        InvalidTaskError: There are others.
    """
    settings = read_configuration().settings.values()
    others = (one for one in settings if one.name not in acting)
    _refuse(place, others, "say it in its own file, if that has it")
    return {one.name: one.value for one in settings}


def check_settings(orch: TaskOrchestrator, where: str) -> None:
    """
    Refuse settings without an effect, because a program has made *orch* without them.

    Its `stop_timeout` has one, unless the program has said another.

    Raises:
        InvalidTaskError: There are some.
    """
    if orch._configured is not None:  # noqa: SLF001 - it was made with them
        return
    settings = read_configuration().settings
    named = settings.get("governance")
    if named is not None and named.value is not None:
        needed = ConstitutionalRuntime.from_yaml(named.value).policies_hash
        if Inside(orch).policies_hash != needed:
            msg = f"{where} makes an orchestrator that does not ask the policies that "
            msg += f"{named.source} names"
            raise InvalidTaskError(msg, hint="TaskOrchestrator.from_config()")
    acting = {"governance"}
    limit = settings.get("stop_timeout")
    if limit is not None and Inside(orch).limit_service(limit.value):
        acting.add("stop_timeout")
    rest = (one for one in settings.values() if one.name not in acting)
    place = f"{where}, which makes an orchestrator"
    _refuse(place, rest, "make it by TaskOrchestrator.from_config()")


def _refuse(place: str, settings: Iterable[Setting], remedy: str) -> None:
    names = [f"{one.name} ({one.source})" for one in settings]
    if names:
        msg = f"without effect in {place}: {', '.join(names)}"
        hint = f"{remedy}; or leave it out: TASKORCH_CONFIG=/dev/null reads no file"
        raise InvalidTaskError(msg, hint=hint)


def module_of(where: str, *, is_module: bool) -> dict[str, Any]:
    """
    Return the definitions of a Python file or a module.

    Raises:
        InvalidTaskError: It cannot be imported.
    """
    if not is_module:
        names: dict[str, Any] = vars(_import_file(Path(where)))
        return names
    sys.path.insert(0, "")
    with _importing(where):
        module = importlib.import_module(where)
    return vars(module)


def functions_of(module: str | None) -> dict[str, Any]:
    """Return the functions that a module has for documents."""
    if module is None:
        return {}
    names = module_of(module, is_module=True)
    return {name: value for name, value in names.items() if callable(value)}


def _import_file(path: Path) -> Any:
    """Import a file under the name by which others can import it."""
    if not path.is_file():
        # Reading raises the error of the system for a missing file.
        path.read_bytes()
    name = path.stem
    spec = None
    if path.suffix == ".py":
        spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{path} is no Python module, and no workflow in YAML or JSON"
        raise InvalidTaskError(msg, hint="name it as in flow.py or flow.yaml")
    if not name.isidentifier() or iskeyword(name):
        msg = f"{path} cannot be imported by its functions: {name!r} is no identifier"
        raise InvalidTaskError(msg, hint="give it a name such as my_flow.py")
    if name in sys.modules:
        msg = f"{path} has the name of a module that is needed: {name}"
        raise InvalidTaskError(msg, hint="give the file another name")
    # Tasks name their functions as `flow:fetch`, in every run of the file.
    sys.path.insert(0, str(path.resolve().parent))
    module = sys.modules[name] = module_from_spec(spec)
    with _importing(str(path)):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _importing(where: str) -> Iterator[None]:
    """
    Report the place of the error if a file cannot be imported.

    Raises:
        InvalidTaskError: It cannot be imported.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        name = error.name if isinstance(error, ImportError) else None
        if name is not None and f"{where}.".startswith(f"{name}."):
            raise
        begin = error.__traceback__
        while begin is not None and _is_ours(begin.tb_frame.f_code.co_filename):
            begin = begin.tb_next
        traceback.print_exception(error.with_traceback(begin))
        msg = f"{where} cannot be imported: {type(error).__name__}"
        hint = "mend it there, as said above"
        if isinstance(error, SystemExit):
            msg += ": it ends the process, and nothing was run"
            hint = 'let it do that only below `if __name__ == "__main__":`'
        raise InvalidTaskError(msg, hint=hint) from None


def _is_ours(file: str) -> bool:
    """Return whether *file* is import machinery, not imported code."""
    return file in (__file__, importlib.__file__) or file.startswith("<frozen import")


def _workflow(
    names: Mapping[str, Any], name: str, where: str
) -> Workflow | WorkflowFunction[...]:
    if name:
        if name not in names:
            msg = f"{where} does not define {name!r}"
            raise InvalidTaskError(msg, hint=f"it defines: {_offer(names)}")
        value = names[name]
        if isinstance(value, WorkflowFunction):
            return value
        if callable(value):
            with _importing(f"{where}:{name}"):
                value = value()
        workflow = _made_of(value, name)
        if workflow is None:
            msg = f"{name} in {where} is no workflow, no task and no list of tasks"
            raise InvalidTaskError(msg, hint="a function may return one, too")
        return workflow
    workflows: dict[int, Any] = {
        id(value): value for value in names.values() if isinstance(value, Workflow)
    } or {
        id(value): value
        for value in names.values()
        if isinstance(value, WorkflowFunction)
    }
    if len(workflows) == 1:
        work: Workflow | WorkflowFunction[...] = next(iter(workflows.values()))
        return work
    if len(workflows) > 1:
        msg = f"{where} defines {len(workflows)} workflows: {_offer(names)}"
        raise InvalidTaskError(msg, hint=f"say which: {where}:NAME")
    listed = _made_of(names.get(_NAME), Path(where).stem)
    if listed is None:
        msg = f"{where} defines no workflow, and no list of tasks called {_NAME!r}"
        raise InvalidTaskError(
            msg, hint=f"define one, or name what returns one: {where}:NAME"
        )
    return listed


def _offer(names: Mapping[str, Any]) -> str:
    """Return the names to choose from."""
    fit = [
        name
        for name, value in names.items()
        if isinstance(value, Workflow | WorkflowFunction)
    ]
    return ", ".join(fit) or "no workflow"


def _made_of(value: Any, name: str) -> Workflow | None:
    """Return a workflow of a workflow, a task or a list of tasks; else None."""
    if isinstance(value, Workflow):
        return value
    if isinstance(value, Task):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
        return None
    tasks = list(value)
    if not tasks or not all(isinstance(task, Task) for task in tasks):
        return None
    workflow = Workflow(name.replace(".", "-"))
    for task in tasks:
        workflow.add(task)
    return workflow


def read_document(path: Path, names: Mapping[str, Any]) -> Workflow:
    """
    Read a workflow of a document, which may start programs and call *names*.

    Raises:
        InvalidTaskError: It is none.
        OSError: It cannot be read.
    """
    if path.suffix != ".json":
        with _naming(path):
            return Workflow.from_yaml(path.read_bytes(), names, programs=True)
    document = read_json(str(path), "mend it there")
    if not isinstance(document, dict):
        msg = f"{path} is no workflow: a mapping is needed"
        raise InvalidTaskError(msg, hint="see taskorch.api.workflows.document_schema")
    with _naming(path):
        return Workflow.from_dict(document, names, programs=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the refused file before an error's message."""
    try:
        yield
    except TaskorchError as error:
        error.message = f"{path}: {error.message}"
        raise


def needed_for(workflow: Workflow, names: Iterable[str]) -> set[str]:
    """
    Return the tasks *names*, and all that they need.

    Raises:
        TaskorchError: One is not in the workflow.
    """
    needed: set[str] = set()
    remaining = list(names)
    for name in remaining:
        if name not in workflow:
            task_names = list(workflow)
            msg = f"{workflow.name} has no task {name!r}{guess(name, task_names)}"
            hint = f"it has {some(task_names)}"
            raise TaskorchError(msg, hint=hint)
    parents = workflow.dependencies
    while remaining:
        name = remaining.pop()
        if name not in needed:
            needed.add(name)
            remaining += parents[name]
    return needed
