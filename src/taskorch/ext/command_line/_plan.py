"""`taskorch plan`: from a request to a plan, without running it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._target import (
    add_limits,
    check_settings,
    functions_of,
    limits_of,
    module_of,
    orchestrator_in,
    without_journal,
)
from taskorch.ext.command_line._terminal import (
    add_json,
    print_json,
    read_json,
    seconds,
    value_of,
)
from taskorch.ext.planner import (
    Domain,
    ExecutionPlan,
    TaskRequest,
    ValidationResult,
    agent_schema,
    plan_schema,
    request_schema,
    workflow_schema,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "target",
        metavar="FILE",
        help="FILE.py, which defines domains, or an orchestrator whose planner has "
        "domains and templates; or a request or a plan in FILE.json; or "
        "`schema:request`, `schema:plan`, `schema:agent` and `schema:workflow`, the "
        "formats of these, of workers and of runs",
    )
    parser.add_argument(
        "request",
        nargs="?",
        metavar="REQUEST",
        help="in a file of JSON, or in words; - reads it; none if FILE has it",
    )
    parser.add_argument(
        "-m", dest="is_module", action="store_true", help="FILE is a module"
    )
    parser.add_argument(
        "--functions",
        metavar="MODULE",
        help="of a plan: the module with the functions that it calls",
    )
    parser.add_argument(
        "--optimize",
        type=seconds,
        metavar="TIME",
        help="look so long for a better order: 5s",
    )
    parser.add_argument(
        "--aim",
        action="append",
        metavar="NAME[=WEIGHT]",
        help="with --optimize, what is to be small: makespan, cost, peak; may be given "
        "again",
    )
    parser.add_argument(
        "--validate", action="store_true", help="say whether it can be carried out"
    )
    parser.add_argument(
        "--output", metavar="PATH", help="write the plan there, as JSON"
    )
    add_limits(parser)
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    schemas = {
        "schema:request": request_schema,
        "schema:plan": plan_schema,
        "schema:agent": agent_schema,
        "schema:workflow": workflow_schema,
    }
    if args.target in schemas:
        print_json(schemas[args.target]())
        return OK
    if args.aim and args.optimize is None:
        msg = "--aim says what --optimize is to make small"
        raise InvalidTaskError(msg, hint="--optimize 1s --aim peak")
    names = functions_of(args.functions)
    orch, request = _read(args, names)
    planner = orch.planner
    if isinstance(request, dict) and "workflow" in request:
        plan = ExecutionPlan.from_dict(request, names, programs=True)
    else:
        plan = planner.plan(request)
    if args.optimize is not None:
        aims = _aims(args.aim) if args.aim else ("makespan",)
        plan = planner.optimize(plan, seconds=args.optimize, aims=aims)
    verdict = planner.validate(plan) if args.validate else None
    _tell(args, plan, verdict, names)
    return OK if verdict is None or verdict.ok else FAILED


def _aims(aims: list[str]) -> dict[str, float]:
    weights = {}
    for each in aims:
        name, _, weight = each.partition("=")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            msg = f"--aim {each}: a weight is a number"
            raise InvalidTaskError(msg, hint="--aim peak=0.5") from None
    return weights


def _read(
    args: argparse.Namespace, names: dict[str, Any]
) -> tuple[TaskOrchestrator, Any]:
    """Return the planner and the request; add the functions of the file to *names*."""
    request: Any = args.request
    if not args.is_module and args.target.endswith(".json"):
        if request is not None:
            msg = "a request in JSON is planned by itself: name one file"
            raise InvalidTaskError(msg, hint="taskorch plan FILE.py REQUEST")
        return without_journal(args), _document(args.target)
    defined = module_of(args.target, is_module=args.is_module)
    names |= {
        name: one
        for name, one in defined.items()
        if callable(one) and not isinstance(one, type)
    }
    if request is None:
        request = _of_file(defined, args.target)
    elif request == "-" or request.endswith(".json"):
        request = _document(request)
    return _orchestrator(defined, args), request


def _tell(
    args: argparse.Namespace,
    plan: ExecutionPlan,
    verdict: ValidationResult | None,
    names: dict[str, Any],
) -> None:
    """Write the plan to the file of `--output`, or print it."""
    if args.output is not None:
        text = json.dumps(plan.to_dict(names), indent=2, ensure_ascii=False)
        Path(args.output).write_text(text + "\n", encoding="utf-8")
    if not args.json:
        print(plan.explain())
        if verdict is not None:
            print(verdict)
        return
    document = plan.to_dict(names)
    if verdict is not None:
        document = {"plan": document, "validation": verdict.to_dict()}
    print_json(document)


def _orchestrator(
    defined: dict[str, Any], args: argparse.Namespace
) -> TaskOrchestrator:
    own = orchestrator_in(defined, args.target)
    if own is not None and limits_of(args):
        msg = f"{args.target} defines an orchestrator, which has limits of its own"
        raise InvalidTaskError(msg, hint="leave out --concurrency and --resources")
    if own is not None:
        check_settings(own, args.target)
    orch = without_journal(args) if own is None else own
    for one in defined.values():
        if isinstance(one, Domain):
            orch.planner.domain(one)
    return orch


def _of_file(defined: dict[str, Any], where: str) -> TaskRequest:
    requests = {
        id(one): one for one in defined.values() if isinstance(one, TaskRequest)
    }
    if len(requests) != 1:
        msg = f"{where} defines {len(requests)} requests"
        raise InvalidTaskError(msg, hint=f"say which: taskorch plan {where} REQUEST")
    return next(iter(requests.values()))


def _document(name: str) -> Any:
    """
    Read a file of JSON.

    Raises:
        InvalidTaskError: It has no valid JSON.
    """
    if name != "-":
        return read_json(name, "mend it there")
    return value_of(sys.stdin.read())
