"""
Workers that are servers of the Model Context Protocol, with tools as capabilities.

We do not know the effects of a tool, so no call is repeated without permission. During
a call that is not repeatable, the task has `idempotent=False`: after a crash, a lost
connection or a timeout, a person decides. If the tool answers with a task of the
server, its id becomes the checkpoint, and our task may run again: the next attempt
queries that id, and calls nothing.

Decision: coding-agents.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs

from taskorch.core.engine import Coroutines, LoopHost, WorkerRunner, row_of, work_of
from taskorch.core.executors.programs import ProgramExecutor
from taskorch.core.kernel import LEFT_RUNNING, past_of
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    JournalUnavailableError,
    NotRunningError,
    OutcomeUnknownError,
    ToolCallError,
    ToolError,
)
from taskorch.ext.tools._tool_server import (
    OfferedTool,
    ServerPlace,
    ToolServer,
    UnansweredError,
)
from taskorch.kit.checks import is_name
from taskorch.kit.fence import log_of
from taskorch.kit.visible import is_text, show, visible
from taskorch.model import Agent, TaskState

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

_LOG: Final = log_of(__name__)

#: Seconds between two queries about a task of a server: the least, the most, and the
#: default.
_SOONEST: Final = 0.05
_LATEST: Final = 60.0
_USUAL: Final = 1.0
#: Seconds for which a server may be silent about such a task.
_SILENT: Final = 300.0
#: The most characters of an answer that an error shows.
_MOST_SHOWN: Final = 2_000
#: The longest id of such a task.
_LONGEST_ID: Final = 10_000
#: The reason for which a task must not run twice.
_UNSAID: Final = "nobody says that its tool may be called again"
#: Seconds for the end of a server that could not join.
_GOODBYE: Final = 10.0


class ToolServers:
    """Tool servers of one orchestrator, and the event loop for them."""

    def __init__(self, runtime: Any) -> None:
        self._rt: Runtime = runtime
        # The orchestrator has no mark of its own before it opens its journal.
        self._run_id = f"tools-{secrets.token_hex(8)}"
        self._loops = LoopHost(f"{runtime.name}-tools", runtime.fail_stop)
        self._executor = Coroutines(self._loops)
        self._servers: list[ToolServer] = []
        #: The executor with the guardian of their processes.
        self._keeper: ProgramExecutor | None = None

    def add(
        self,
        info: Agent,
        place: Mapping[str, Any],
        repeatable: Sequence[str],
        patience: float,
    ) -> tuple[str, ...]:
        """
        Connect to a server, let it join as the worker *info*, return its capabilities.

        *place* has the fields of a `ServerPlace`.

        Raises:
            InvalidTaskError: The name is taken.
            ToolError: The server cannot be reached.
        """
        if info.name in [Agent.LOCAL, *self._rt.runners]:
            msg = f"there is a worker {info.name!r} already"
            raise InvalidTaskError(msg, hint="give it another name")
        where = ServerPlace(**place)
        worker = ToolWorker(info.name, where, repeatable)
        worker.join(self._rt, info, self._executor)
        server = worker.server = ToolServer(
            info.name,
            where,
            patience,
            self._loops.get(),
            self._opened,
            self._run_id,
            worker.tools_changed,
        )
        self._servers.append(server)
        try:
            server.open()
        except BaseException:
            self._servers.remove(server)
            self._end((server,), _GOODBYE)
            raise
        return worker.capabilities

    def close(self, patience: float) -> None:
        """End all connections and processes, within *patience* seconds."""
        end = monotonic() + patience
        self._end(self._servers, patience)
        self._loops.close(max(0.0, end - monotonic()))
        if self._keeper is not None:
            self._keeper.close(0.0, max(0.0, end - monotonic()))

    def _end(self, servers: Iterable[ToolServer], patience: float) -> None:
        async def end() -> None:
            every = [server.end() for server in servers]
            await asyncio.gather(*every, return_exceptions=True)

        # The guardian ends the processes that are left after that time.
        with suppress(TimeoutError):
            loop = self._loops.get()
            asyncio.run_coroutine_threadsafe(end(), loop).result(patience)

    def _opened(self) -> ProgramExecutor:
        if self._keeper is None:
            self._keeper = ProgramExecutor(run_id=self._run_id)
        return self._keeper


class ToolWorker:
    """Worker that does its tasks by the tools of its server."""

    server: ToolServer

    def __init__(
        self, name: str, place: ServerPlace, repeatable: Sequence[str]
    ) -> None:
        self._name = name
        self._place = place
        self._repeatable = tuple(repeatable)
        self._tools: dict[str, OfferedTool] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # This becomes part of the cache key, so servers do not share cached results.
        place = self._place
        return ToolWorker, (self._name, ServerPlace(place.command, url=place.url), ())

    def join(self, rt: Runtime, info: Agent, executor: Coroutines) -> None:
        """Become a worker of *rt*, without any tools yet."""
        self._rt = rt
        self._info = info
        self._runner = WorkerRunner(info.name, self.do, executor)
        self._joined = False

    def tools_changed(self, tools: dict[str, OfferedTool]) -> None:
        """Set the capabilities to these *tools*."""
        unusable = [name for name in tools if not is_name(name)]
        for name in unusable:
            _LOG.warning("%s has a tool without a usable name: %r", self._name, name)
            del tools[name]
        self._tools = tools
        names = tuple(sorted(f"{self._name}.{name}" for name in tools))
        if self._joined and names == self._info.capabilities:
            return
        self._info = attrs.evolve(self._info, capabilities=names)
        with suppress(NotRunningError):
            self._rt.add_worker(self._info, self._runner, again=self._joined)
            self._joined = True

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Capabilities of the worker now."""
        return self._info.capabilities

    # -- one attempt ---------------------------------------------------------------

    async def do(self, task: Any, context: Any) -> Any:
        """
        Do *task* by the tool that it requires, or that its type names.

        Raises:
            ToolError: The tool failed, or its server cannot be reached.
            ToolCallError: The task is no call of a tool, or the answer is invalid.
            OutcomeUnknownError: It is unknown what the tool has done.
        """
        kept = context.restored
        call = _ToolCall(self, task, context)
        if isinstance(kept, Mapping) and "task" in kept:
            return await call.go_on(kept)
        return await call.begin(was_called=kept is not None)

    def tool_name(self, task: Any, requires: Iterable[str]) -> str:
        """
        Return the name of the tool that a task calls.

        Raises:
            ToolCallError: It calls none, or several.
        """
        prefix = f"{self._name}."
        names = [each for each in requires if each.startswith(prefix)]
        if not names and task.type.removeprefix(prefix) in self._tools:
            names = [task.type]
        if len(names) == 1:
            return names[0].removeprefix(prefix)
        count = f"{len(names)} tools" if names else "no tool"
        msg = f"the task names {count} of {self._name}, and it is a call of one"
        example = next(iter(self._tools), "search")
        hint = f"Task({example!r}, {{…}}, requires=['{prefix}{example}'])"
        raise ToolCallError(msg, hint=hint)

    def tool(self, name: str) -> OfferedTool | None:
        """Return the description of a tool; None: it has none of this name."""
        return self._tools.get(name)

    def is_repeatable(self, tool: OfferedTool | None) -> bool:
        """Return whether its server, or the user, says that it may be called again."""
        return tool is not None and (
            tool.repeatable
            or any(fnmatchcase(tool.name, each) for each in self._repeatable)
        )


class _ToolCall:
    """Attempt at a task that is a call of a tool."""

    def __init__(self, worker: ToolWorker, task: Any, context: Any) -> None:
        self._worker = worker
        self._server = worker.server
        self._context = context
        requires = row_of(context).bucket.spec.requires or ()
        self._tool_name = worker.tool_name(task, requires)
        self._full_name = f"{worker._name}.{self._tool_name}"
        self._payload = task.payload

    async def begin(self, *, was_called: bool) -> Any:
        """Call the tool and wait for its result; *was_called*: it is called again."""
        worker, name = self._worker, self._tool_name
        tool = worker.tool(name)
        if tool is None:
            msg = f"there is no tool {self._full_name} any more"
            raise ToolError(msg, task_id=self._context.task_id)
        arguments = self._arguments(tool)
        is_repeatable = worker.is_repeatable(tool)
        await self._server.connected()
        if not is_repeatable:
            if was_called and self._was_cut_off():
                # It was submitted anew meanwhile, as a task that may run twice.
                self._lose_once("the orchestrator ended while it was called")
            self._allow(_UNSAID, allowed=False)
            await self._context.aio.checkpoint({"tool": self._full_name})
        try:
            answer = await self._server.call(name, arguments, self._progress)
        except UnansweredError as error:
            if is_repeatable:
                self._lose(str(error))
            self._lose_once(str(error))
        except asyncio.CancelledError:
            if is_repeatable or self._why_stopped in ("cancel", "deadline"):
                raise
            self._lose_once("it was stopped before it had answered")
        if answer.get("resultType") != "task":
            return self._result(answer)
        task_id = answer.get("taskId")
        if not is_text(task_id) or not 0 < len(task_id) <= _LONGEST_ID:
            self._refuse("answered with a task that has no id", answer)
        kept = {
            "tool": self._full_name,
            "task": task_id,
            "idempotent": row_of(self._context).bucket.spec.idempotent,
        }
        return await self.go_on(kept, is_new=True)

    async def go_on(self, kept: Mapping[str, Any], *, is_new: bool = False) -> Any:
        """Wait for a task of the server; one that *is_new* is stored first."""
        task_id = kept["task"]
        try:
            if is_new:
                await self._context.aio.checkpoint(kept)
            # Only now a repeat is safe, since the next attempt knows the task.
            self._allow("its server has a task for it, which is waited for")
            await self._kept()
            state = await self._end_of(task_id)
        except (asyncio.CancelledError, AttemptInterrupted):
            if self._why_stopped in ("cancel", "deadline"):
                await self._server.cancel(task_id, self._tool_name)
            raise
        try:
            if state is None:
                self._lose("its server does not know the task any more that it began")
            return self._outcome(state)
        except Exception:
            # The next attempt, if there is one, calls the tool anew.
            why = "the task of its server is over"
            self._allow(why, allowed=kept["idempotent"])
            with suppress(AttemptInterrupted):
                await self._context.aio.checkpoint(None)
            raise

    async def _end_of(self, task_id: str) -> dict[str, Any] | None:
        """Wait for the end of a task of the server, return it; None: unknown."""
        heard = monotonic()
        latest: object = None
        pause = _SOONEST
        while True:
            try:
                state = await self._server.state(task_id, self._tool_name)
            except ToolCallError:
                return None
            except (ToolError, UnansweredError) as error:
                if monotonic() - heard > _SILENT:
                    msg = f"{self._full_name}: {error}, for {_SILENT:g} s"
                    raise ToolError(msg, task_id=self._context.task_id) from error
                pause = min(2 * pause, _LATEST)
            else:
                heard = monotonic()
                if state.get("status") != "working":
                    return state
                message = state.get("statusMessage")
                if message and message != latest:
                    latest = message
                    self._context.progress({"message": str(message)})
                asked = state.get("pollIntervalMs")
                pause = asked / 1_000 if isinstance(asked, int) else _USUAL
            await asyncio.sleep(min(max(pause, _SOONEST), _LATEST))

    def _outcome(self, state: dict[str, Any]) -> Any:
        """Return the result of a task of the server, or raise its error."""
        status, answer = state.get("status"), state.get("result")
        if status == "completed" and isinstance(answer, dict):
            return self._result(answer)
        if status in ("failed", "cancelled"):
            error = state.get("error")
            text = error.get("message") if isinstance(error, dict) else error
            text = text or f"its server says that it is {status}"
            msg = f"{self._full_name}: {visible(str(text))[:_MOST_SHOWN]}"
            raise ToolError(msg, task_id=self._context.task_id)
        if status == "input_required":
            return self._refuse("asks for input, which nobody here gives", state)
        return self._refuse("answered with a task in no state that there is", state)

    # -- what goes in and comes out ------------------------------------------------

    def _arguments(self, tool: OfferedTool) -> dict[str, Any]:
        """
        Return the payload as arguments, if the tool accepts it.

        Raises:
            ToolCallError: The tool does not accept it.
        """
        payload = {} if self._payload is None else self._payload
        if not isinstance(payload, Mapping):
            msg = f"{self._full_name} is called with a mapping, not {show(payload)}"
            raise ToolCallError(msg, task_id=self._context.task_id)
        arguments = dict(payload)
        wrong = _mismatch(tool.arguments, arguments)
        if wrong:
            msg = f"{self._full_name} was not called: its arguments: {wrong}"
            raise ToolCallError(msg, task_id=self._context.task_id)
        return arguments

    def _result(self, answer: dict[str, Any]) -> Any:
        """
        Return the result of a tool.

        Raises:
            ToolError: The tool reports a failure.
            ToolCallError: The result violates the schema of the tool.
        """
        if answer.get("resultType") == "input_required":
            self._refuse("asks for input, which nobody here gives", answer)
        content = answer.get("content") or []
        structured = answer.get("structuredContent")
        texts = [
            part.get("text")
            for part in content
            if isinstance(part, dict) and part.get("type") == "text"
        ]
        plain: Any = content
        if len(texts) == len(content):
            plain = "\n".join(map(str, texts))
        result = plain if structured is None else structured
        if answer.get("isError"):
            words = plain if isinstance(plain, str) and plain else show(result)
            msg = f"{self._full_name}: {visible(words)[:_MOST_SHOWN]}"
            raise ToolError(msg, result=result, task_id=self._context.task_id)
        tool = self._worker.tool(self._tool_name)
        if tool is not None and tool.answer is not None:
            wrong = "there is no structured content"
            if "structuredContent" in answer:
                wrong = _mismatch(tool.answer, structured)
            if wrong:
                self._refuse(
                    f"did what it was to do, and answered what its own schema does "
                    f"not allow: {wrong}",
                    result,
                )
        return result

    def _refuse(self, what: str, answer: Any) -> NoReturn:
        shown = visible(str(answer))[:_MOST_SHOWN]
        msg = f"{self._full_name} {what}; it said {shown}"
        raise ToolCallError(msg, result=answer, task_id=self._context.task_id)

    def _lose(self, why: str) -> NoReturn:
        msg = f"{self._full_name}: {why}"
        raise OutcomeUnknownError(msg, task_id=self._context.task_id) from None

    async def _progress(
        self, done: float, total: float | None, message: str | None
    ) -> None:
        value = {"progress": done, "total": total, "message": message}
        self._context.progress(
            {key: each for key, each in value.items() if each is not None}
        )

    # -- what is kept of the attempt -----------------------------------------------

    @property
    def _why_stopped(self) -> str:
        why: str = self._context._control.why
        return why

    def _was_cut_off(self) -> bool:
        """Return whether this attempt automatically follows one that a crash ended."""
        moves = [
            (state, why)
            for state, _, why in past_of(row_of(self._context))
            if state in (TaskState.RETRYING, TaskState.BLOCKED)
        ]
        return bool(moves) and moves[-1] == (TaskState.RETRYING, LEFT_RUNNING)

    def _allow(self, why: str, *, allowed: bool = True) -> None:
        """Set whether the task may run again if the end of this attempt is unknown."""
        context = self._context
        if row_of(context).bucket.spec.idempotent is not allowed:
            self._worker._rt.allow_repeat(
                work_of(context), context.attempt, allowed=allowed, reason=why
            )

    async def _kept(self) -> None:
        """Wait until all events so far are in the journal, if there is one."""
        committer = self._worker._rt.committer
        while committer is not None:
            try:
                await committer.wait_kept_async([committer.last])
                return
            except JournalUnavailableError:
                # Like a checkpoint, this waits until the journal can be written.
                if self._context.cancelled:
                    raise

    def _lose_once(self, why: str) -> NoReturn:
        """Leave the decision to a person, since a second call is not allowed."""
        # It may have been submitted anew meanwhile, as a task that may run twice.
        self._allow(_UNSAID, allowed=False)
        self._lose(why)


def _mismatch(schema: Any, value: Any) -> str:
    """Describe how *value* violates *schema*; "" if it does not."""
    from jsonschema import SchemaError  # noqa: PLC0415 - heavy, and comes with mcp
    from jsonschema.exceptions import best_match  # noqa: PLC0415
    from jsonschema.validators import validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        kind = validator_for(schema)
        kind.check_schema(schema)
        # The empty registry makes sure that no schema is fetched.
        error = best_match(kind(schema, registry=Registry()).iter_errors(value))
    except (SchemaError, Unresolvable, RecursionError, ValueError, TypeError) as wrong:
        text = wrong.message if isinstance(wrong, SchemaError) else str(wrong)
        return f"the schema that its server gives is none: {visible(text)[:200]}"
    if error is None:
        return ""
    path = "".join(f"[{part!r}]" for part in error.absolute_path)
    return visible(f"{path}: {error.message}" if path else error.message)[:500]
