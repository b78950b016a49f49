"""
Attempts that are programs: how they are begun, what they spend, what their ends mean.

Decision: quotas-and-budgets.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    MemoryLimitError,
    NotRunningError,
    ProgramFailedError,
    UnenforceableError,
)
from taskorch.kit.ends import KILLED_BY_OTHERS, is_no_room, until_kill
from taskorch.kit.fence import log_of
from taskorch.kit.visible import show
from taskorch.model import LIMITS, ProgramVariables, Resources, units_in
from taskorch.protocols import Attempt, AttemptExecutor

if TYPE_CHECKING:
    from pathlib import Path

    from taskorch.core.executors._programs._executor import ProgramExecutor
    from taskorch.core.executors._programs._process import ProgramEnd, ProgramProcess
    from taskorch.model import Enforce, Program, ProgramResult

_log = log_of(__name__)
#: The most characters of a program's last line that its error begins with.
_MAX_LINE: Final = 500
#: Limits whose resources have other names.
_LIMIT_OF: Final = {"disk_mb": "written_mb"}
#: The most names of variables that the error of a program mentions.
_SOME_NAMES: Final = 3


class Programs(AttemptExecutor["ProgramProcess"]):
    """
    Runs the programs of attempts; `close` ends all that they leave.

    Few orchestrators need it, and the modules that start programs take a tenth of our
    start-up, so they are loaded with the first program. The run id is asked for only
    then.
    """

    def __init__(self, run_id: Callable[[], str]) -> None:
        self._run_id = run_id
        self._making = threading.Lock()
        self._executor: ProgramExecutor | None = None
        #: The folder for the logs; None is a temporary one.
        self.logs: Path | None = None
        #: Whether programs are held to their limits if they do not say so themselves.
        self.enforce: Enforce = None

    def begin(self, attempt: Attempt) -> ProgramProcess:
        """Start the program that is the payload of the task."""
        task_id, task = attempt.task_id, attempt.task
        program: Program = task.payload

        def on_end(end: ProgramEnd) -> None:
            if end.error is not None and is_no_room(end.error):
                attempt.unstarted(end.error)
                return
            if end.error is not None:
                attempt.end(error=_unstarted(task_id, end.error))
                return
            assert end.result is not None  # noqa: S101 - one of the two is set
            if spending is not None and end.result.exit_code < 0:
                # A signal has cut it off, so its spending is not known.
                spending.take_rest()
            error = failure_of(task_id, program, end.result, was_asked=end.was_asked)
            attempt.end(None if error is not None else end.result, error)

        spending = spending_of(attempt)
        program = as_declared(program, attempt, self.enforce)
        return self._opened().start(
            program,
            name=f"{task_id}/{attempt.fence[1]}",
            env=ProgramVariables.of_attempt(task_id, attempt.fence),
            on_end=on_end,
            holding=_Holding(attempt) if task.resources.is_elastic else None,
            on_spent=None if spending is None else spending.take,
        )

    def stop(self, begun: ProgramProcess, grace: float) -> None:
        """
        Ask the program to end, and kill it if it has not done so in time.

        It is killed before the grace period is over; otherwise the kernel would give it
        up just as it is killed.
        """
        begun.terminate(until_kill(grace))

    def can_hold(self) -> bool:
        """Return True: SIGSTOP reaches the whole process group."""
        return True

    def hold(self, begun: ProgramProcess) -> None:
        """Stop the process group with SIGSTOP."""
        begun.stop()

    def resume(self, begun: ProgramProcess) -> None:
        """Continue the process group with SIGCONT."""
        begun.resume()

    def allocation_changed(self, begun: ProgramProcess) -> None:
        """Write the file with the allocation of the program again."""
        begun.look_again()

    def log_path(self, begun: ProgramProcess) -> Path | None:
        """Return the file with its output, once that exists."""
        return begun.log_path

    def end_all(self, grace: float) -> None:
        """Ask all programs to end within *grace* seconds; they are told fewer."""
        if self._executor is not None:
            self._executor.terminate(until_kill(grace))

    def close(self, patience: float) -> None:
        """Kill all programs, and wait up to *patience* seconds for their ends."""
        if self._executor is not None:
            self._executor.close(0, patience)

    def _opened(self) -> ProgramExecutor:
        with self._making:
            if self._executor is None:
                from taskorch.core.executors._programs._executor import ProgramExecutor  # noqa: PLC0415 - see above

                self._executor = ProgramExecutor(run_id=self._run_id(), logs=self.logs)
            return self._executor


def as_declared(program: Program, attempt: Attempt, usual: Enforce) -> Program:
    """
    Return *program* with all its limits, also those that its task declares.

    *usual* says whether a program is held to them that does not say so.
    """
    enforce = program.enforced(usual)
    if not enforce:
        return program
    # An attempt may have got more than the one before it, or less than it asked for.
    granted = dict(Resources.from_units(attempt.told("allocation", None)))
    amounts = {_LIMIT_OF.get(name, name): much for name, much in granted.items()}
    limits = {name: amounts[name] for name in LIMITS if name in amounts}
    writes = program.writes
    if attempt.task.writes is not None:
        writes = (*(writes or ()), *attempt.task.writes)
    return attrs.evolve(
        program,
        limits=limits | dict(program.limits),
        writes=writes,
        enforce=enforce,
    )


class _Holding:
    """The allocation of an attempt, for its program."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def held(self) -> Resources:
        return Resources.from_units(self._attempt.told("allocation", None))

    def reach_checkpoint(self) -> Resources:
        # Signals tell the program that it is to end.
        with suppress(AttemptInterrupted):
            self._attempt.told("checkpoint", None)
        return self.held()


def spending_of(attempt: Attempt) -> Spending | None:
    """Return the listener for a program's spending; None without a budget."""
    if attempt.told("reserved", None) is None:
        return None
    return Spending(attempt.task_id, attempt.told)


class Spending:
    """
    Hears from the program of a task how much it has spent.

    *tell* passes it to the attempt: see `Attempt.told`.
    """

    def __init__(self, task_id: str, tell: Callable[[str, Any], Any]) -> None:
        self._task_id = task_id
        self._told = tell

    def take(self, lines: list[bytes]) -> None:
        """Take *lines* of JSON, each with amounts by resource."""
        amounts: dict[str, int] = {}
        for line in lines:
            units = units_in(line) if line.strip() else ()
            for name, much in units or ():
                amounts[name] = amounts.get(name, 0) + much
            if units is None:
                _log.warning(
                    "task %s wrote into %s what is no JSON of amounts, such as "
                    '{"tokens": 1840}, so all that it has reserved counts as spent: %s',
                    *(self._task_id, ProgramVariables.SPENT, show(line[:_MAX_LINE])),
                )
                self._tell(amounts)
                amounts = {}
                self.take_rest()
        self._tell(amounts)

    def take_rest(self) -> None:
        """Count all that it has reserved as spent, since that is not known."""
        self._tell(dict(self._told("reserved", None) or ()))

    def _tell(self, amounts: Mapping[str, int]) -> None:
        try:
            if amounts:
                self._told("spending", tuple(sorted(amounts.items())))
        except NotRunningError as error:
            _log.warning("taskorch: %s", error)
        except InvalidTaskError as error:
            # Names that its budget has do count.
            for pair in amounts.items() if len(amounts) > 1 else ():
                with suppress(InvalidTaskError, NotRunningError):
                    self._told("spending", (pair,))
            _log.warning(
                "taskorch: %s. It wrote that into %s, so all that it has reserved "
                "counts as spent",
                *(error, ProgramVariables.SPENT),
            )
            self.take_rest()


def _unstarted(task_id: str, error: BaseException) -> ProgramFailedError:
    if getattr(error, "is_unheld", False):
        return UnenforceableError(f"task {task_id}: {error}", task_id=task_id)
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ProgramFailedError(f"task {task_id}: {why}", task_id=task_id)


def failure_of(
    task_id: str, program: Program, result: ProgramResult, *, was_asked: bool
) -> ProgramFailedError | None:
    """Return the error of a program that has failed; None if it has not."""
    if result.exceeded:
        return _over_limit(task_id, program, result)
    if result.exit_code == 0 or not program.check:
        return None
    how, why = _how_ended(result, was_asked=was_asked)
    tail = result.stderr_tail.strip() or result.stdout_tail.strip()
    last = tail.rpartition("\n")[2].strip()[-_MAX_LINE:]
    spoken = f": {last}" if last else ""
    output = result.stderr_tail + result.stdout_tail
    msg = f"program {str(program.args[0])!r} {how}{spoken} (task {task_id})"
    hint = "; ".join(filter(None, (why, _withheld(result.withheld_env, output))))
    return ProgramFailedError(msg, result=result, hint=hint, task_id=task_id)


def _over_limit(
    task_id: str, program: Program, result: ProgramResult
) -> ProgramFailedError:
    """Return the error of a program that was ended for one of its limits."""
    name, how = result.exceeded, result.enforced.partition(",")[0]
    begin = f"program {str(program.args[0])!r}"
    end = f"and was ended (task {task_id})"
    if name == "group":
        msg = f"{begin} left the group that holds its limits, {end}"
        return ProgramFailedError(msg, result=result, hint="", task_id=task_id)
    limit = result.limits[name]
    if name == "memory_mb":
        used = result.memory_mb or limit
        return MemoryLimitError(
            f"{begin} used {used:.0f} of {limit:g} MB of memory, {end}",
            result=result,
            peak=used,
            limit=limit,
            how=how,
            hint="give its task more memory_mb, or let it use less",
            task_id=task_id,
        )
    amounts = {
        "cpu_seconds": (result.cpu_seconds, "seconds of processors"),
        "written_mb": (result.written_mb, "MB written to disks"),
    }
    amount, words = amounts[name]
    msg = f"{begin} used {amount or limit:.1f} of {limit:g} {words}, {end}"
    hint = f"raise its limit, {name}"
    return ProgramFailedError(msg, result=result, hint=hint, task_id=task_id)


def _how_ended(result: ProgramResult, *, was_asked: bool) -> tuple[str, str]:
    """Return how a failed program ended, and a hint, if there is one."""
    code = result.exit_code
    how = f"exited with code {code}" if code > 0 else f"was ended by signal {-code}"
    if result.oom_killed:
        who = "a process of it" if code > 0 else "it"
        how += f": {who} was killed by the system for want of memory"
        return how, "let fewer run at once, by resources=, or give them more memory"
    if code == -signal.SIGKILL and not was_asked:
        return how, KILLED_BY_OTHERS
    return how, ""


def _withheld(names: tuple[str, ...], text: str) -> str:
    """Return a sentence on the variables that a program lacked and has named."""
    words = {*re.findall(r"\w+", text)}
    named = [name for name in names if name in words][:_SOME_NAMES]
    return f"not inherited: {', '.join(named)}; see inherit_env=" if named else ""
