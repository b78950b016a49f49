"""
Spawned workers: their templates, their processes, and their ends.

Decisions: worker-pools, workers-elsewhere.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs

from taskorch.core.executors.programs import ProgramEnd, ProgramProcess
from taskorch.core.kernel import (
    GOING,
    WorkerRow,
    shut_out,
    without_quotas,
)
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    UnknownAgentError,
)
from taskorch.ext.spawned._failing import FailingTemplates
from taskorch.ext.spawned._line_program import LineProgram
from taskorch.kit.checks import check_count, check_seconds
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.machine import machine_labels
from taskorch.kit.visible import as_text, is_text, show, visible
from taskorch.kit.vocabulary import meant
from taskorch.model import (
    AGENT_KINDS,
    CODING_TYPES,
    NO_RESOURCES,
    Agent,
    AgentHealth,
    AgentInstance,
    AgentMatch,
    AgentTemplate,
    Program,
    Resources,
    ScalingDecision,
    TaskState,
    check_breaker,
    is_label,
    level_names,
    levels_had,
    levels_of,
)
from taskorch.model.ids import check_id

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.executors.programs import ProgramExecutor

_LOG: Final = log_of(__name__)

#: Seconds between two checks of processes.
_LOOK: Final = 0.2
#: The least seconds from SIGTERM to SIGKILL, in which a worker can leave.
_GOODBYE: Final = 1.0
#: The most failed workers that are still listed with their reasons.
_MOST_FALLEN: Final = 20
#: The most characters of a worker's last line that the report of its end has.
_MOST_SHOWN: Final = 300
#: The keys of `config` of `spawn`.
_CONFIG: Final = ("id", "max_concurrency", "capabilities", "capacity", "request")
_WITH_HANDLER: Final = ("auto", "thread", "asyncio", "process", "program")
_WITH_COMMAND: Final = ("lines", "service")


@attrs.define(eq=False)
class Spawned:
    """Worker that was spawned here."""

    id: str
    template: AgentTemplate
    since: float
    process: ProgramProcess | None = None
    #: The end of the process.
    end: ProgramEnd | None = None
    lines: LineProgram | None = None
    #: Whether it has joined.
    joined: bool = False
    #: The time at which it leaves even if it has work; None: it is not to leave.
    until: float | None = None
    #: The reason for its last failure; "": there was none.
    failed: str = ""


class SpawnedWorkers:
    """State and processes of the workers that `orch.agents` spawns."""

    def __init__(self, runtime: Any, orchestrator: Any) -> None:
        self._rt: Runtime = runtime
        self._orch = orchestrator
        self.lock = threading.RLock()
        self.templates: dict[str, AgentTemplate] = {}
        self.spawned: dict[str, Spawned] = {}
        #: The latest workers that have failed, by id.
        self.fallen: dict[str, Spawned] = {}
        self.failing = FailingTemplates(runtime, orchestrator)
        self.pools: dict[str, Any] = {}
        #: The latest decisions of `provision`.
        self.provisions: deque[ScalingDecision] = deque(maxlen=100)
        self._looks = False
        #: The executor of the workers' processes, with the guardian that ends them.
        self._keeper: ProgramExecutor | None = None

    def pooled(self) -> dict[str, Any]:
        """Return the pools by template, also those that were added as controllers."""
        from taskorch.policies import AgentPool  # noqa: PLC0415 - when needed

        driven = self._orch.drivers.of_class(AgentPool)
        return {**self.pools, **{each.template.name: each for each in driven}}

    def is_of_earlier_incarnation(self, agent_id: str) -> bool:
        """Return whether only an earlier run of the program has spawned the worker."""
        if agent_id in self.spawned or agent_id in self.fallen:
            return False
        return any(pool.template.has_named(agent_id) for pool in self.pooled().values())

    # -- templates -----------------------------------------------------------------

    def template(self, template: AgentTemplate) -> AgentTemplate:
        """Store a checked template; it replaces one of the same name."""
        _check(template)
        with self.lock:
            self.templates[template.name] = template
        self.failing.forget(template.name)
        if self._rt.opened:
            self.failing.withdraw((template.name,))
        return template

    def template_named(self, name: str) -> AgentTemplate:
        """Return the template of this name."""
        named: object = name
        template = self.templates.get(name) if is_text(named) else None
        if template is not None:
            return template
        hint = "orch.agents.template(name, …) makes one"
        if is_text(named):
            if name in CODING_TYPES:
                made: AgentTemplate = self._orch.agents.coding(types=[name])[0]
                return made
            hint = meant(name, {*self.templates, *CODING_TYPES}, hint)
        msg = f"there is no template of workers {show(named)}"
        raise InvalidTaskError(msg, hint=hint)

    # -- spawning ------------------------------------------------------------------

    def spawn(self, name: str, config: Mapping[str, Any]) -> Spawned:
        """Start a worker."""
        template = self.template_named(name)
        if why := self.failing.why(name):
            msg = f"workers of {name!r} are not spawned: {why}"
            hint = f"mend it, and say orch.agents.template({name!r}, …) anew"
            raise InvalidTaskError(msg, hint=hint)
        changes = dict(config)
        for key in changes:
            if key not in _CONFIG:
                msg = f"spawn({name!r}): {key!r} is no key of a configuration"
                hint = meant(key, _CONFIG, ", ".join(_CONFIG))
                raise InvalidTaskError(msg, hint=hint)
        agent_id = changes.pop("id", None)
        for key in ("capacity", "request"):
            if changes.get(key) is not None:
                changes[key] = Resources.of(changes[key], key, named=key == "capacity")
        if "capabilities" in changes:
            changes["capabilities"] = levels_of(changes["capabilities"])
        template = attrs.evolve(template, **changes)
        _check(template)
        with self.lock:
            if agent_id is None:
                agent_id = self._free_id(template)
            if check_id(agent_id) in self.spawned or self._is_there(agent_id):
                msg = f"there is a worker {agent_id!r} already"
                raise InvalidTaskError(msg, hint="give it another id, or none")
            one = Spawned(agent_id, template, time.monotonic())
            self.spawned[agent_id] = one
            self.fallen.pop(agent_id, None)
        try:
            self._start(one)
        except BaseException:
            self.spawned.pop(agent_id, None)
            raise
        return one

    def provision(
        self, requirements: Iterable[str], need: Resources
    ) -> AgentInstance | None:
        """Return a worker that meets the needs, or spawn one, or note why not."""
        wanted = self.wanted(requirements)
        for match in self.match(wanted, need=need):
            if match.matches:
                return match.agent
        able = [
            template
            for template in self.templates.values()
            if all(
                template.capabilities.get(n, 0) >= level
                for n, level in wanted.items()
                if n not in self._labels_of(template)
            )
            and not _too_little(need, _room_of(template))
        ]
        levels = [
            name if level == 1 else f"{name}:{level}" for name, level in wanted.items()
        ]
        words = ", ".join([*levels, *(f"{need[name]:g} {name}" for name in need)])
        why = f"no template has {words}"
        spawned: AgentInstance | None = None
        name = ""
        for template in able:
            name = template.name
            mine = [
                one
                for one in self.all()
                if one.type == name and one.status not in ("lost", "failed")
            ]
            pool = self.pools.get(name)
            if pool is not None and len(mine) >= pool.max_agents:
                why = (
                    f"{words} is needed, and there are {len(mine)} workers of {name}, "
                )
                why += "which is max_agents"
                continue
            if given_up := self.failing.why(name):
                why = f"{words} is needed, and {name} is given up: {given_up}"
                continue
            why = f"no worker has {words}, and those of {name} have"
            spawned = self.instance(self.spawn(name, {}).id)
            break
        now = self._rt.now() / NS
        many = 0 if spawned is None else 1
        self.provisions.append(ScalingDecision(now, name, 0, many, why, 0.0))
        return spawned

    def decisions(self, template: str | None) -> tuple[ScalingDecision, ...]:
        """
        The latest decisions of the pool of a template, or of all, oldest first.

        Raises:
            InvalidTaskError: There is no such pool.
        """
        pools = self.pooled()
        if template is not None and as_text(template) not in pools:
            msg = f"there is no pool of workers {show(template)}"
            hint = meant(template, pools, f"there are {[*pools]}")
            raise InvalidTaskError(msg, hint=hint)
        decisions = [
            each
            for name, pool in pools.items()
            if template in (None, name)
            for each in list(pool.decisions)
        ]
        if template is None:
            decisions += self.provisions
        return tuple(sorted(decisions, key=lambda each: each.at))

    def _labels_of(self, template: AgentTemplate) -> Iterable[str]:
        """Return the known labels of the machines of a template's workers."""
        if template.executor != "service":
            return machine_labels()
        # The command may start it on another machine, whose labels it brings as it
        # joins.
        workers = self._rt.kernel.workers
        mine = [one.id for one in self._of(template.name) if one.id in workers]
        return {label for one_id in mine for label in workers[one_id].info.labels}

    def _of(self, template: str) -> list[Spawned]:
        every = list(self.spawned.values())
        return [one for one in every if one.template.name == template]

    def _free_id(self, template: AgentTemplate) -> str:
        number = 1
        while (agent_id := template.id_of(number)) in self.spawned or self._is_there(
            agent_id
        ):
            number += 1
        return agent_id

    def _is_there(self, agent_id: str) -> bool:
        row = self._rt.kernel.workers.get(agent_id)
        return row is not None and not row.lost

    def _start(self, one: Spawned) -> None:
        template = one.template
        if template.executor in _WITH_COMMAND:
            # Processes need the mark of this run, which exists once it has started.
            self._orch.start()
        if template.executor == "service":
            self._start_process(one)
            self._look_on()
            return
        handler, executor = template.handler, template.executor
        if executor == "lines":
            handler = one.lines = LineProgram(
                one.id,
                template.start,
                self._opened(),
                self._run_id,
                lambda why: self._ended(one, why),
            )
            try:
                one.lines.start()
            except OSError as error:
                self._refuse(one, error)
            executor = "thread"
            self._look_on()
        self._orch.agent(
            one.id,
            capabilities=level_names(template.capabilities),
            max_concurrency=template.max_concurrency,
            capacity=template.capacity,
            request=template.request,
            executor=executor,
            breaker=template.breaker,
        )(handler)
        one.joined = True

    def _start_process(self, one: Spawned) -> None:
        """
        Start the command of a worker.

        Raises:
            InvalidTaskError: It cannot be started.
        """
        command = [part.replace("{id}", one.id) for part in one.template.start]
        logs = self._rt.attempts.programs.logs
        program = Program(
            command,
            inherit_env=True,
            check=False,
            log=None if logs is None else logs / "agents" / f"{one.id}.log",
        )
        is_over = threading.Event()

        def on_end(end: ProgramEnd) -> None:
            one.end = end
            is_over.set()

        one.process = self._opened().start(
            program, name=f"agents/{one.id}", env={}, on_end=on_end
        )
        while one.process.pid is None and not is_over.wait(_LOOK / 100):
            pass
        if one.end is not None and isinstance(one.end.error, OSError):
            self._refuse(one, one.end.error)

    def _refuse(self, one: Spawned, error: OSError) -> NoReturn:
        """
        Say that the command of a worker cannot be started.

        Raises:
            InvalidTaskError: Always.
        """
        why = os.strerror(error.errno) if error.errno else str(error)
        why = f"{one.template.start[0]!r} cannot be started: {why}"
        self.failing.fault(one.template.name, why)
        msg = f"worker {one.id}: {why}"
        raise InvalidTaskError(msg, hint="mend start=[…]") from None

    @property
    def _run_id(self) -> str:
        """Mark of the workers' processes of this run, and of no others."""
        return f"{self._rt.run_id}.agents"

    def _opened(self) -> ProgramExecutor:
        with self.lock:
            if self._keeper is None:
                from taskorch.core.executors.programs import ProgramExecutor  # noqa: PLC0415 - when needed

                logs = self._rt.attempts.programs.logs
                self._keeper = ProgramExecutor(run_id=self._run_id, logs=logs)
            return self._keeper

    def restore(self) -> None:
        """Withdraw the questions of an earlier run of the program."""
        self.failing.withdraw([*self.templates])

    def joining(self, info: Agent) -> Agent:
        """Complete a worker that joins with the values of its template, if any."""
        one = self.spawned.get(info.name)
        if one is None or one.process is None:
            return info
        lacks = {*level_names(one.template.capabilities)} - {*info.capabilities}
        if lacks:
            why = f"it has joined without {', '.join(sorted(lacks))}"
            self.failing.fault(one.template.name, why)
            msg = f"worker {info.name!r} is not as its template says: {why}"
            raise InvalidTaskError(msg, hint="name them in the command, with --can")
        template = one.template
        return attrs.evolve(
            info,
            breaker=info.breaker or template.breaker,
            capacity=info.capacity if template.capacity is None else template.capacity,
            request=template.request or info.request,
        )

    def _ended(self, one: Spawned, why: str) -> None:
        """Handle the end of a worker's program; drain a worker that ends too often."""
        one.failed = why
        _LOG.warning("worker %s of %s: %s", one.id, one.template.name, visible(why))
        self.failing.ended(one.template.name, one.id, why)

    # -- the end -------------------------------------------------------------------

    def terminate(self, agent_id: str, grace: float) -> None:
        """
        Let a worker go: at once, or when its work has ended.

        Raises:
            InvalidTransitionError: It is `local`, which is built in.
        """
        if as_text(agent_id) == Agent.LOCAL:
            msg = (
                f"worker {Agent.LOCAL!r} is built in: nothing else runs plain functions"
            )
            hint = (
                f"orch.agents.drain({Agent.LOCAL!r}) gives it nothing new for a while"
            )
            raise InvalidTransitionError(msg, hint=hint)
        row = self.row(agent_id)
        one = self.spawned.get(agent_id)
        if row is None:
            self.fallen.pop(agent_id, None)
            if one is not None:
                self._forget(one, grace)
            return
        self._rt.step(lambda now: self._rt.kernel.drain(agent_id, GOING, now))
        if one is None:
            one = self.spawned[agent_id] = Spawned(
                agent_id, _of_itself(row), time.monotonic(), joined=True
            )
        one.until = time.monotonic() + grace
        self.look()
        if agent_id in self.spawned:
            self._look_on()

    def _forget(self, one: Spawned, grace: float = 0.0) -> None:
        """Stop what was started for a worker, within so many seconds."""
        with self.lock:
            if self.spawned.get(one.id) is one:
                del self.spawned[one.id]
        if one.process is not None:
            one.process.terminate(max(grace, _GOODBYE))
        if one.lines is not None:
            one.lines.stop()

    def close(self, patience: float) -> None:
        """Stop all that was started for the orchestrator, and wait for that."""
        for one in list(self.spawned.values()):
            if one.lines is not None:
                one.lines.stop()
        if self._keeper is not None:
            grace = min(self._rt.kernel.config.grace_ns / NS, patience / 2)
            self._keeper.close(grace, patience - grace)

    # -- looking on ----------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the controller."""
        return "agents"

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """See `taskorch.protocols.Driver`."""
        del view
        needed = any(
            one.until is not None or one.process is not None or one.lines is not None
            for one in list(self.spawned.values())
        )
        return ([_Look(self)], now + _LOOK) if needed else ([], None)

    def _look_on(self) -> None:
        controllers = self._orch.drivers
        with self.lock:
            if not self._looks:
                self._looks = True
                controllers.add(self)
        controllers.wake(self.name)

    def look(self) -> None:
        """Check the workers that start, run and leave."""
        for one in list(self.spawned.values()):
            row = self._rt.kernel.workers.get(one.id)
            here = row is not None and not row.lost
            over = time.monotonic()
            if one.until is not None:
                if not here or row is None or not row.running or over >= one.until:
                    self._go(one, row)
                continue
            if one.lines is not None:
                one.lines.look()
            if one.process is None:
                continue
            if one.end is not None:
                self._failed(one, row, _how(one.end))
            elif here:
                one.joined = True
            elif not one.joined and over - one.since > one.template.spawn_timeout:
                why = f"it has not joined in {one.template.spawn_timeout:g} s"
                self._failed(one, row, why)

    def _failed(self, one: Spawned, row: WorkerRow | None, why: str) -> None:
        """Handle a worker that has ended by itself or is of no use."""
        path = None if one.process is None else one.process.log_path
        where = f"; its output is in {path}" if path is not None else ""
        text = visible(f"worker {one.id} of {one.template.name}: {why}{where}")
        _LOG.warning("%s", text)
        with self.lock:
            # Under the lock, it is either spawned or failed for all readers.
            one.failed = why
            self.fallen.pop(one.id, None)
            self.fallen[one.id] = one
            while len(self.fallen) > _MOST_FALLEN:
                del self.fallen[next(iter(self.fallen))]
        self._forget(one)
        if row is not None and not row.lost:
            self._leave(one.id)
        self.failing.fault(one.template.name, why)

    def _go(self, one: Spawned, row: WorkerRow | None) -> None:
        if row is not None and not row.lost:
            self._leave(one.id)
        self._forget(one, (one.until or 0.0) - time.monotonic())

    def _leave(self, agent_id: str) -> None:
        rt = self._rt
        rt.step(lambda now: rt.kernel.leave(agent_id, (), now))

    # -- what is seen --------------------------------------------------------------

    def starting(self, template: str) -> Iterator[str]:
        """Return the ids of workers of a template that have not joined yet."""
        for one in self._of(template):
            if not one.joined:
                yield one.id

    def row(self, agent_id: str) -> WorkerRow | None:
        """Return the kernel's record of a worker; None while it starts."""
        agent_id = as_text(agent_id)
        row = self._rt.kernel.workers.get(agent_id)
        has_gone = row is not None and row.lost and row.draining == GOING
        is_mine = agent_id in self.spawned or agent_id in self.fallen
        if (row is None or has_gone) and not is_mine:
            ids = [one.id for one in self.all()]
            msg = f"there is no worker {show(agent_id)}"
            hint = meant(agent_id, ids, "see orch.agents.list()")
            raise UnknownAgentError(msg, hint=hint)
        return row

    def all(self) -> list[AgentInstance]:
        """Return all workers in the order in which they came, starting ones last."""
        with self._rt.lock:
            every = self._rt.kernel.workers.values()
            rows = [row for row in every if not (row.lost and row.draining == GOING)]
            running = self._running()
            instances = [self._instance(row.name, row, running) for row in rows]
        names = {row.name for row in rows}
        late = [
            one_id
            for one_id in {**self.spawned, **self.fallen}
            if one_id not in names and one_id not in self._rt.kernel.workers
        ]
        return instances + [self._instance(one_id, None, {}) for one_id in late]

    def instance(self, agent_id: str) -> AgentInstance:
        """Return one worker."""
        row = self.row(agent_id)
        with self._rt.lock:
            return self._instance(agent_id, row, self._running())

    def _running(self) -> dict[str, list[str]]:
        """Return the ids of running tasks by worker; the caller holds the lock."""
        ids: dict[str, list[str]] = {}
        for task in self._rt.kernel.tasks.values():
            if task.worker is not None and task.state is TaskState.RUNNING:
                ids.setdefault(task.worker.name, []).append(task.id)
        return ids

    def _instance(
        self, agent_id: str, row: WorkerRow | None, running: Mapping[str, list[str]]
    ) -> AgentInstance:
        one = self.spawned.get(agent_id) or self.fallen.get(agent_id)
        template = None if one is None else one.template
        health = self._health(agent_id, row)
        pid = None
        if one is not None and one.process is not None:
            pid = None if one.end is not None else one.process.pid
        elif one is not None and one.lines is not None:
            pid = one.lines.pid
        names = row.info.capabilities if row is not None else ()
        if template is not None and row is None:
            names = level_names(template.capabilities)
        is_ours = template is not None and template.name in self.templates
        return AgentInstance(
            agent_id,
            template.name if template is not None and is_ours else None,
            "utility" if template is None else template.kind,
            levels_had(names),
            health.status,
            health,
            Resources() if row is None else _held(row),
            0 if row is None else row.running,
            None if row is None else row.info.max_concurrency,
            pid,
            tuple(running.get(agent_id, ())),
            {} if row is None else _by_key(row.info.labels),
            Resources() if row is None else self._most(row),
            {}
            if row is None
            else {name: group.held() for name, group in row.units.items()},
        )

    def _most(self, row: WorkerRow) -> Resources:
        """Return the most of each resource that a task can have on a worker."""
        most = {
            name: pool.total
            for name, pool in self._rt.kernel.pools.items()
            if not pool.is_quota
        }
        for name, units in row.capacity.items():
            most[name] = min(units, most.get(name, units))
        return Resources.from_units(
            tuple(pair for pair in sorted(most.items()) if pair[1])
        )

    def _health(self, agent_id: str, row: WorkerRow | None) -> AgentHealth:
        fallen = self.fallen.get(agent_id)
        if row is None and fallen is not None:
            return AgentHealth(
                agent_id, "failed", healthy=False, reasons=(fallen.failed,)
            )
        if row is None:
            return AgentHealth(
                agent_id, "starting", healthy=False, reasons=("it has not joined yet",)
            )
        every: list[str] = [
            f"draining: {row.draining}" if short.kind == "draining" else short.kind
            for short in shut_out(row, row.info.capabilities)
        ]
        if fallen is not None:
            every.append(fallen.failed)
        one = self.spawned.get(agent_id)
        if one is not None and one.lines is not None and one.lines.pid is None:
            every.append(f"{one.failed}: it is started again for a task")
        quarantined = any(why.startswith("breaker") for why in every)
        status: Any = "busy" if row.running else "idle"
        if row.lost:
            status = "lost"
        elif row.draining:
            status = "draining"
        elif quarantined:
            status = "quarantined"
        ended = row.completed + row.failed
        records = row.records.values()
        done = sum(record.completed for record in records)
        total_ns = sum(record.completed * record.latency_ns for record in records)
        age = (self._rt.now() - row.heard_ns) / NS if row.lease_ns else None
        return AgentHealth(
            agent_id,
            status,
            not shut_out(row, ()),
            tuple(every),
            age,
            row.completed / ended if ended else None,
            total_ns / done / NS if done else None,
            {name: one.state for name, one in row.breakers.items()},
        )

    def why_none(self, bucket: Any) -> str:
        """Return why no worker of a template can do its tasks; "" if one may come."""
        requires = bucket.spec.needs if bucket.spec.requires else ()
        wanted = {name for name in requires if not is_label(name)}
        reasons = _too_small_for(self._rt.kernel, bucket, wanted, self.pooled())
        reasons += [
            f"worker {one.id} of {one.template.name} is not there: {one.failed}"
            for one in list(self.fallen.values())
            if wanted <= {*level_names(one.template.capabilities)}
        ]
        reasons += [
            f"{name} is given up: {self.failing.why(name)}"
            for name in self._given_up_for(wanted)
        ]
        return reasons[-1] if reasons else ""

    def asked_for(self, requires: Iterable[str]) -> list[str]:
        """Return the questions about given-up templates that could do this."""
        wanted = {name for name in requires if not is_label(name)}
        names = self._given_up_for(wanted)
        return [asked for name in names if (asked := self.failing.question(name))]

    def _given_up_for(self, wanted: set[str]) -> list[str]:
        return [
            name
            for name in self.failing.names()
            if wanted <= {*level_names(self.templates[name].capabilities)}
        ]

    def wanted(self, requirements: Iterable[str] | Mapping[str, int]) -> dict[str, int]:
        """
        Return the required level of each capability, by name.

        Raises:
            InvalidTaskError: A level is none, and no worker has what is called so.
        """
        if isinstance(requirements, str):
            requirements = [requirements]
        names = {name for worker in self.all() for name in worker.capabilities}
        return levels_of(requirements, names)

    def match(
        self,
        wanted: Mapping[str, int],
        type: str | None = None,  # noqa: A002
        need: Resources = NO_RESOURCES,
    ) -> list[AgentMatch]:
        """Return all workers but the local one; those that lack nothing first."""
        matches = []
        for worker in self.all():
            if worker.id == "local":
                continue
            labels = (f"{key}:{value}" for key, value in worker.labels.items())
            has = {**worker.capabilities, **dict.fromkeys(labels, 1)}
            lacks = [
                f"it has no {name}"
                if name not in has
                else f"its {name} is of level {has[name]}, and {level} is needed"
                for name, level in wanted.items()
                if has.get(name, 0) < level
            ]
            row = self._rt.kernel.workers.get(worker.id)
            one = self.spawned.get(worker.id)
            if row is None:
                lacks += worker.health.reasons
                room = {} if one is None else _room_of(one.template)
            else:
                room = {name: row.free(name) for name in row.capacity}
                names = tuple(wanted)
                lacks += [f"it is {s.kind}" for s in shut_out(row, names)]
            lacks += _too_little(need, room)
            weights: Mapping[str, float] = {}
            if one is not None:
                weights = one.template.affinities
            liking = weights.get(type, 0.0) if type is not None else 0.0
            rate = worker.health.success_rate
            success = 0.5 if rate is None else rate
            load = 0.0 if not worker.slots else min(1.0, worker.workload / worker.slots)
            score = liking + success * (1 - load)
            words = "; ".join(lacks) or (
                f"success {success:.2f}, {worker.workload} running"
                + (f", affinity {liking:g}" if liking else "")
            )
            matches.append(AgentMatch(worker, not lacks, words, score))
        return sorted(matches, key=lambda one: (not one.matches, -one.score))


def _room_of(template: AgentTemplate) -> dict[str, int]:
    """Return the amounts of the resources that a template's capacity names."""
    return {} if template.capacity is None else dict(template.capacity.totals())


def _too_small_for(
    kernel: Any, bucket: Any, wanted: set[str], pools: Mapping[str, Any]
) -> list[str]:
    """Say of worker pools with what is *wanted* why none may do tasks of *bucket*."""
    reasons = []
    for name, pool in pools.items():
        template = pool.template
        if not wanted <= {*level_names(template.capabilities)}:
            continue
        says_itself = template.executor == "service" and template.capacity is None
        short = None if says_itself else kernel.too_small(bucket, template.agent(name))
        if short is None:
            # Its next worker may do it.
            return []
        need, most = short.need / 1e6, short.have / 1e6
        has = f"{most:g} at most" if most else "none"
        reasons.append(
            f"it asks for {need:g} {short.name}, and a worker of the pool {name} "
            f"has {has}"
        )
    return reasons


def _too_little(need: Resources, room: Mapping[str, int]) -> list[str]:
    """Describe each resource of which *room* has less than is needed."""
    return [
        f"it has {room[name] / 1e6:g} {name} left, and {units / 1e6:g} are needed"
        for name, units in need.units
        if room.get(name, units) < units
    ]


@attrs.frozen
class _Look:
    """Command: look at the processes."""

    fleet: SpawnedWorkers

    def apply(self, orchestrator: Any, /) -> object:
        del orchestrator
        self.fleet.look()
        return None


def _how(end: ProgramEnd) -> str:
    """Describe how the process of a worker has ended, with its last line of output."""
    if end.result is None:
        return f"its process could not be followed: {end.error}"
    tail = end.result.stderr_tail.strip() or end.result.stdout_tail.strip()
    last = tail.rpartition("\n")[2].strip()[-_MOST_SHOWN:]
    code = end.result.exit_code
    return f"its process ended with {code}" + (f": {last}" if last else "")


def _of_itself(row: WorkerRow) -> AgentTemplate:
    """Return a template for a worker that joined without being spawned."""
    levels = levels_had(row.info.capabilities)
    # Capabilities of templates have no colon.
    capabilities = {name: level for name, level in levels.items() if ":" not in name}
    return AgentTemplate("", capabilities=capabilities)


def _by_key(labels: Iterable[str]) -> dict[str, str]:
    """Group labels by their keys."""
    return {key: value for key, _, value in (each.partition(":") for each in labels)}


def _held(row: WorkerRow) -> Resources:
    """Return the resources that the attempts of a worker hold, pools included."""
    return Resources.from_units(
        without_quotas(
            tuple((name, units) for name, units in row.used.items() if units)
        )
    )


def _check(template: AgentTemplate) -> None:
    name = check_id(template.name)
    if template.kind not in AGENT_KINDS:
        msg = f"template {name!r}: kind {show(template.kind)} is none of the kinds"
        hint = meant(template.kind, AGENT_KINDS, ", ".join(AGENT_KINDS))
        raise InvalidTaskError(msg, hint=hint)
    if template.executor in _WITH_COMMAND:
        start: object = template.start
        if not start or isinstance(start, str):
            msg = f"template {name!r}: executor={template.executor!r} needs a command"
            raise InvalidTaskError(msg, hint='start=["sh", "agent.sh"]')
        if template.handler is not None:
            msg = f"template {name!r}: a command does the work, and no handler"
            raise InvalidTaskError(msg, hint="leave out the one or the other")
        if template.executor == "lines" and template.max_concurrency != 1:
            msg = f"template {name!r}: a program of lines does one task at a time"
            raise InvalidTaskError(msg, hint="max_concurrency=1, and spawn more")
    elif template.start:
        msg = f"template {name!r}: start has no effect with {template.executor!r}"
        raise InvalidTaskError(msg, hint=f"executor is one of {_WITH_COMMAND}")
    elif not callable(template.handler):
        msg = f"template {name!r}: a handler is needed, not {show(template.handler)}"
        raise InvalidTaskError(msg, hint="handler=a function of (task, context)")
    level_names(template.capabilities)
    template.has_named("")
    check_breaker(template.breaker)
    check_seconds("spawn_timeout", template.spawn_timeout, zero=False)
    if template.max_concurrency is not None:
        check_count("max_concurrency", template.max_concurrency, least=1)
