"""The workspace: a folder of task files, and their states."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    UnknownTaskError,
    ValidationFailedError,
)
from taskorch.ext.task_files import _dry_run, _layout, _progress
from taskorch.ext.task_files._claims import Claims
from taskorch.ext.task_files._config import PHASES, agent_program, read_config
from taskorch.ext.task_files._fields import Problem
from taskorch.ext.task_files._layout import WorkspaceLayout
from taskorch.ext.task_files._progress import Report, WorkspaceProgress, report_on
from taskorch.ext.task_files._scan import Scanner, WorkspacePlan
from taskorch.ext.task_files._session import WorkspaceSession
from taskorch.ext.task_files._status import (
    StatusRefusedError,
    gate_of,
    read_status,
)
from taskorch.ext.task_files._task_file import head_of
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.staged import Staged
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess
from taskorch.kit.words import stamp
from taskorch.model import BudgetUsage, Resources
from taskorch.model.ids import folder_of

if TYPE_CHECKING:
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.ext.governance import ConstitutionalRuntime


class Workspace:
    """
    A folder of task files, `tasks/**/*.md`, and of their states, `workspace/`.

    Used in a `with` block, tasks that were launched one by one end with it.

    At four fifths of a budget, a run tells it (`ALERT`); its end and `budgets` say how
    each stands, and `why` what a task has spent. Where `enforce` is True and a machine
    has no cgroups, a task that says `cpu` fails, and any other runs, with
    `"unenforced": ["cpu"]` in its status. Limits of runners that share a folder count
    together, but for a moment after a new file; outcomes without a claim do not count.
    With `measured`, a task that has begun may wait for memory. A cancelled
    `launch_task` fails with `Cancelled`.

    Scopes of writing keep tasks of one runner apart, and hold no program to these
    paths. Files of states are written whole; runners share `.taskorch/`. The amount
    that a task has spent stays when you repeat it, or remove its file. A raised budget
    stays until the file declares another amount. `--phase` is refused while an earlier
    phase has not passed, without `--force`.

    Args:
        root: The folder that both are in.
        agent: Who does a task that does not say by whom: a command line such as
            `agent run {task_file}`, or the name of a preset or of one of the workers of
            `workspace.yaml`; None is what that says.
        stdin: Whether that worker reads the Markdown of the task from its standard
            input.
        tell: Takes a line for people about each thing that happens; None tells nobody.
        governance: Policies besides those of `workspace.yaml`, as `TaskOrchestrator`
            takes them.

    Raises:
        InvalidTaskError: There is no such folder, or no such worker, or a policy can do
            something that cannot be had with task files.
        ValidationFailedError: A file of policies is not well formed.
        OSError: It cannot be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = ".",
        *,
        agent: str | None = None,
        stdin: bool = False,
        tell: Callable[[str], object] | None = print,
        governance: ConstitutionalRuntime | str | os.PathLike[str] | None = None,
    ) -> None:
        self.root: Path = Path(root).resolve()
        if not self.root.is_dir():
            msg = f"there is no folder {os.fspath(root)!r}"
            raise InvalidTaskError(msg, hint="taskorch workspace init makes one")
        self._faults: list[Problem] = []
        config = read_config(self.root, self._faults)
        program, judges = config.agent, None
        if agent is not None:
            program = agent_program(agent, config.agents)
        program = attrs.evolve(program, stdin=stdin or program.stdin)
        if governance is not None or config.policies:
            # Few workspaces have policies: only these load the code that judges.
            from taskorch.ext.task_files._policies import judging  # noqa: PLC0415

            judges = judging(config.policies, governance)
        self._config = attrs.evolve(config, agent=program, governance=judges)
        folders = config.folders
        self._layout = WorkspaceLayout(self.root, folders.tasks, folders.workspace)
        self._scanner = Scanner(self._layout, self._config)
        self._claims = Claims(self._layout, self._config.budgets)
        self._told = tell
        self._telling = threading.RLock()
        self._launching: WorkspaceSession | None = None

    @classmethod
    def init(cls, root: str | os.PathLike[str] = ".") -> list[str]:
        """
        Make a workspace: a template, settings, folders, and two scripts.

        Returns:
            The files that were made; existing files stay as they are.
        """
        Path(root).mkdir(parents=True, exist_ok=True)
        self = cls(root)
        return _layout.init(self.root, self._layout, self.title, PHASES)

    @property
    def title(self) -> str:
        """Title of the workspace: from `workspace.yaml`, or the folder's name."""
        return self._config.title or self.root.name

    def lint(self) -> list[Problem]:
        """All faults in `workspace.yaml` and the task files."""
        return [*sorted(self._faults), *self._plan.problems]

    @property
    def task_ids(self) -> list[str]:
        """The ids of all task files, phase by phase."""
        return self._plan.ids

    # -- running -------------------------------------------------------------------

    def run(
        self,
        *,
        phase: str | None = None,
        force: bool = False,
        retry_failed: bool = False,
    ) -> Report:
        """
        Run all that can run, until nothing can go on; what was done is not done again.

        Args:
            phase: The only phase whose tasks are run; None is all.
            force: Whether they are run though a phase before has not passed.
            retry_failed: Whether tasks that have failed are run again.

        Raises:
            ValidationFailedError: `workspace.yaml` cannot be used.
            UnknownTaskError: There is no such phase.
            InvalidTransitionError: A phase before *phase* has not passed.
        """
        self._check_run(phase, force=force)
        if retry_failed:
            self._retry_failed(phase)
        with self._session(phase) as session:
            session.run()
        plan = session.plan
        if phase is not None:
            plan = attrs.evolve(plan, phases={phase: plan.phases.get(phase, ())})
        report = report_on(self._progress(plan), session.held)
        return attrs.evolve(report, phase=phase or "")

    def main_loop(self) -> Report:
        """
        Run all, and tell how that ended.

        Raises:
            ValidationFailedError: `workspace.yaml` cannot be used.
        """
        report = self.run()
        self._tell(str(report))
        return report

    def dry_run(
        self,
        *,
        phase: str | None = None,
        force: bool = False,
        retry_failed: bool = False,
    ) -> _dry_run.DryRun:
        """
        Forecast what `run` would do, in which order, and when; change nothing.

        Raises:
            UsageError: As for `run`.
        """
        self._check_run(phase, force=force)
        return _dry_run.dry_run(
            self._progress(), phase=phase, retry_failed=retry_failed
        )

    def launch_task(self, task_id: str) -> TaskHandle[Any]:
        """
        Launch one task, whatever it waits for, in the background.

        Ask `can_launch` before. `close`, or the end of the `with` block, waits for it.

        Returns:
            Its handle: `result()` waits for its end.

        Raises:
            UnknownTaskError: There is no such task.
            InvalidTaskError: Its file has problems.
        """
        self._known(task_id)
        if task_id not in self._plan.tasks:
            problems = "; ".join(self._progress().obstacles(task_id))
            raise InvalidTaskError(problems, hint="mend its file")
        if self._launching is None:
            self._launching = self._session(None).__enter__()
        return self._launching.launch(task_id)

    def close(self) -> None:
        """Wait for the tasks that were launched, and end."""
        self.__exit__(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        session, self._launching = self._launching, None
        if session is not None:
            session.__exit__(kind)

    # -- asking --------------------------------------------------------------------

    def get_task_status(self, task_id: str) -> dict[str, Any] | None:
        """
        Return the fields of a task's status file; None if there is none.

        Raises:
            InvalidTaskError: It cannot be believed.
        """
        try:
            status = read_status(self._layout, task_id)
        except StatusRefusedError as error:
            hint = f"mend it, or: taskorch workspace retry {task_id}"
            raise InvalidTaskError(str(error), hint=hint) from error
        return None if status is None else status.to_dict()

    def can_launch(self, task_id: str) -> bool:
        """
        Whether a task could be launched now, if there is a free worker.

        It has neither ended nor begun, what it waits for has completed, its inputs are
        there, and the phases before have passed.

        Raises:
            UnknownTaskError: There is no such task.
        """
        self._known(task_id)
        progress = self._progress()
        status = progress.statuses.get(task_id)
        if status is not None and status.status != "blocked":
            return False
        return not progress.obstacles(task_id)

    def check_all_complete(self) -> bool:
        """Return whether all tasks have completed."""
        progress = self._progress()
        return all(progress.has_completed(task_id) for task_id in self._plan.ids)

    def parse_frontmatter(self, task_file: str | os.PathLike[str]) -> dict[str, Any]:
        """
        Read the head of a task file, and return its fields as they stand there.

        Args:
            task_file: Its path, as seen from `root`; or the id of its task.

        Returns:
            All its fields; `dependencies`, `inputs` and `outputs` are always there.

        Raises:
            ValidationFailedError: It cannot be read; all problems are named.
        """
        shown = os.fspath(task_file)
        if shown in self._plan.known:
            shown = self._layout.task_file(shown)
        problems: list[Problem] = []
        head = head_of(self.root / shown, shown, problems)
        if head is None or problems:
            text = "; ".join(map(str, problems))
            findings = tuple((str(problem), problem.text) for problem in problems)
            raise ValidationFailedError(text, findings=findings, hint="mend it")
        return head

    def status(self) -> str:
        """The dashboard: each phase, with how many of its tasks are how far."""
        return self._progress().dashboard(self.title)

    def budgets(self) -> list[BudgetUsage]:
        """Return the usage of each budget, in all runs so far."""
        return self._claims.usages()

    def why(self, task_id: str) -> str:
        """
        Why a task is in its state, for people.

        Raises:
            UnknownTaskError: There is no such task.
        """
        self._known(task_id)
        log = self._layout.log(task_id)
        shown = self._layout.shown(log) if log.exists() else None
        return _progress.why(self._progress(), task_id, shown)

    # -- changing ------------------------------------------------------------------

    def retry(self, task_id: str) -> list[str]:
        """
        Have a task that has ended run again, and the tasks that it blocks wait for it.

        Returns:
            The ids of the tasks that wait now.

        Raises:
            UnknownTaskError: There is no such task.
            InvalidTransitionError: It runs, or waits already.
        """
        self._known(task_id)
        holder = self._claims.holder(task_id)
        status = self._progress().statuses.get(task_id)
        if holder is not None and status is not None and status.status == "running":
            msg = f"{task_id} runs now: runner {holder} has it"
            raise InvalidTransitionError(msg, hint="stop that runner first")
        if not self._claims.reset(task_id, "failed", "completed", "running"):
            msg = f"{task_id} has not ended: there is nothing to run again"
            hint = f"taskorch workspace why {task_id}"
            raise InvalidTransitionError(msg, hint=hint)
        phase = folder_of(task_id)
        blocked = [
            other
            for other, status in self._progress().statuses.items()
            if status.status == "blocked"
            and status.blocked_by in (task_id, gate_of(phase))
        ]
        # Who had approved its phase had seen what it made before.
        self._layout.approval(phase).unlink(missing_ok=True)
        return [task_id, *(i for i in blocked if self._claims.reset(i, "blocked"))]

    def approve(self, phase: str, *, by: str, note: str = "") -> bool:
        """
        Approve a phase whose rule says `approval: true`: the next one may begin.

        Args:
            phase: Its name.
            by: The name of the person who approves it.
            note: A comment to keep with the approval.

        Returns:
            False if it had been approved before.

        Raises:
            UnknownTaskError: There is no such phase.
            InvalidTaskError: It asks for no approval, or *by* is no name.
            InvalidTransitionError: Its tasks have not completed.
        """
        self._check_phase(phase)
        if not by.strip() or not (by + note).isprintable():
            msg = "by: the name of somebody is needed; both are texts on one line"
            raise InvalidTaskError(msg)
        if not self._config.rule(phase)[1].approval:
            msg = f"phase {phase} asks for no approval"
            hint = f"in workspace.yaml: phases: {{{phase}: {{approval: true}}}}"
            raise InvalidTaskError(msg, hint=hint)
        path = self._layout.approval(phase)
        if path.exists():
            return False
        unfinished = self._progress().left_in(phase)
        if unfinished:
            msg = f"phase {phase} has not come to its gate: {unfinished}"
            raise InvalidTransitionError(msg, hint="approve what it has made")
        at = stamp(MonotonicClock().now_ns() // NS)
        approval = {"phase": phase, "by": by, "at": at, "note": note}
        Staged(path, json.dumps(approval) + "\n").commit()
        return True

    def raise_budget(self, name: str, totals: Mapping[str, float]) -> BudgetUsage:
        """
        Set how much there is of a budget in all; what is not named stays.

        That holds as long as `workspace.yaml` declares as much as it does now. Tasks
        that wait for it go on, also under a runner.

        Args:
            name: The budget.
            totals: How much there is, by resource: `{"tokens": 300000}`.

        Returns:
            How it stands then.

        Raises:
            ValidationFailedError: `workspace.yaml` cannot be used.
            InvalidTaskError: There is no such budget, or an amount is none.
        """
        self._check_run(None, force=False)
        declared = self._config.budgets.totals.get(name)
        if declared is None:
            choices = ", ".join(self._config.budgets.totals) or "none"
            msg = f"there is no budget {show(name)}"
            raise InvalidTaskError(msg, hint=f"workspace.yaml declares {choices}")
        checked = Resources.of(totals, "totals")
        others = [each for each in totals if each not in declared]
        if others or checked.zeros or not totals:
            msg = f"budget {name}: amounts above 0 of {', '.join(declared)} are needed"
            raise InvalidTaskError(msg, hint=f'{{"{next(iter(declared))}": 300000}}')
        self._claims.raise_budget(name, dict(checked))
        return next(usage for usage in self.budgets() if usage.name == name)

    def _retry_failed(self, phase: str | None) -> None:
        for task_id, status in self._progress().statuses.items():
            if status.status == "failed" and (phase in (None, folder_of(task_id))):
                self._claims.reset(task_id, "failed")

    # -- parts ---------------------------------------------------------------------

    @property
    def _plan(self) -> WorkspacePlan:
        return self._scanner.scan()

    def _progress(self, plan: WorkspacePlan | None = None) -> WorkspaceProgress:
        plan, usages = plan or self._plan, self._claims.usages()
        return WorkspaceProgress(self._layout, self._config, plan, usages)

    def _known(self, task_id: str) -> None:
        hint = f"the id of a task is its path in {self._layout.tasks}/, without .md"
        _refuse_unknown("task", task_id, self._plan.known, hint)

    def _check_run(self, phase: str | None, *, force: bool) -> None:
        if self._faults:
            shown = "\n".join(map(str, sorted(self._faults)))
            findings = tuple((str(fault), fault.text) for fault in self._faults)
            raise ValidationFailedError(shown, findings=findings, hint="mend it first")
        if phase is None:
            return
        self._check_phase(phase)
        shut = self._progress().shut_before(phase)
        if shut and not force:
            lines = [f"{name}: {one}" for name, why in shut.items() for one in why]
            msg = f"before {phase}, a gate is shut: {'; '.join(lines)}"
            hint = "run what is before, or begin all the same: --force (force=True)"
            raise InvalidTransitionError(msg, hint=hint)

    def _check_phase(self, phase: str) -> None:
        hint = f"a phase is a folder in {self._layout.tasks}/"
        _refuse_unknown("phase", phase, self._plan.phases, hint)

    def _session(self, phase: str | None) -> WorkspaceSession:
        return WorkspaceSession(
            self._layout, self._config, self._scanner, tell=self._tell, phase=phase
        )

    def _tell(self, line: str) -> None:
        if self._told is not None:
            # Tasks end on several threads, and `print` writes the end of a line apart.
            with self._telling:
                self._told(line)

    def __repr__(self) -> str:
        return f"<Workspace {str(self.root)!r}>"


def _refuse_unknown(kind: str, name: str, names: Collection[str], hint: str) -> None:
    if name not in names:
        msg = f"there is no {kind} {name!r}{guess(name, names)}"
        raise UnknownTaskError(msg, hint=hint, task_id=name)
