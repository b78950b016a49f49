"""
Domains and problems in HDDL, the language of the planning competition's HTN tracks.

This reads the language of D. Höller and others (*HDDL: an extension to PDDL for
expressing hierarchical planning problems*, AAAI 2020), but for numbers, durations and
constraints on states. A plan is a line of steps; subtasks that are not ordered are
tried in each order, one after another and never interleaved.

Decision: plan-search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, Final, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner._domain import Decomposition, Domain
from taskorch.ext.planner._state import State
from taskorch.kit.vocabulary import guess

Form: TypeAlias = "str | list[Form]"
Binding: TypeAlias = dict[str, str]
_TOKEN: Final = re.compile(r"[()]|[^\s()]+")
#: The task that stands for all tasks of a problem.
TOP: Final = "__top"
_SUBTASKS: Final = (":ordered-subtasks", ":ordered-tasks", ":subtasks", ":tasks")
#: The keywords of each section.
_KEYWORDS: Final[Mapping[str, tuple[str, ...]]] = {
    ":task": (":parameters",),
    ":action": (":parameters", ":precondition", ":effect"),
    ":method": (
        *(":parameters", ":task", ":precondition", ":constraints", ":ordering"),
        *_SUBTASKS,
    ),
    ":htn": (":parameters", ":constraints", ":ordering", *_SUBTASKS),
}
#: The words with which a condition may begin, each with the number of forms that
#: follow; 0: any.
_CONDITION: Final = {"and": 0, "or": 0, "not": 1, "imply": 2, "=": 2} | dict.fromkeys(
    ("forall", "exists"), 2
)
_EFFECT: Final = {"and": 0, "not": 1, "when": 2, "forall": 2}


@attrs.frozen(eq=False)
class HddlProblem:
    """
    A problem: a domain, the first state, and the tasks and goal.

    Attributes:
        domain: The domain, with the task `"__top"` for all that is to be done.
        name: Its name.
        state: The first state: the atoms, each True.
        goal: A condition on the end; None: there is none.
        actions: The condition and the effect of each action, for `check`.
        world: The types, and the objects of each.
    """

    domain: Domain
    name: str
    state: Mapping[Any, Any]
    goal: Any
    actions: Mapping[str, _Action]
    world: _World

    def solve(self, **limits: Any) -> Decomposition:
        """
        Steps that do it, and reach the goal.

        Raises:
            PlanningError: There are none.
        """
        for way in self.domain.decompositions((TOP,), self.state, **limits):
            if not self.check([(s.operator.name, *s.args) for s in way.steps]):
                return way
        msg = f"problem {self.name!r}: what was found does not reach its goal"
        raise PlanningError(msg)

    def check(self, steps: Iterable[Sequence[str]]) -> list[str]:
        """
        Return the faults of a plan: steps that cannot be done, and a missed goal.

        It uses the text of the actions and a plain set of atoms, and shares nothing
        with the search. It does not test whether the tasks allow these steps.
        """
        atoms: set[tuple[str, ...]] = set(self.state)
        faults: list[str] = []
        for number, (name, *args) in enumerate(steps, 1):
            action = self.actions.get(name)
            where = f"step {number}, ({' '.join([name, *args])})"
            if action is None or len(args) != len(action.parameters):
                faults.append(f"{where}: there is no such action")
                continue
            bound = {v: a for (v, _), a in zip(action.parameters, args, strict=True)}
            for (variable, kind), value in zip(action.parameters, args, strict=True):
                if value not in self.world.of(kind):
                    faults.append(f"{where}: {variable} is a {kind}, not {value}")
            if not _holds(action.needs, bound, atoms.__contains__, self.world):
                faults.append(f"{where}: what it needs does not hold")
            added, gone = _effects(action.effect, bound, atoms.__contains__, self.world)
            atoms = (atoms - gone) | added
        if self.goal and not _holds(self.goal, {}, atoms.__contains__, self.world):
            faults.append("at the end, the goal does not hold")
        return faults


@attrs.frozen(eq=False)
class _Action:
    parameters: tuple[tuple[str, str], ...]
    needs: Any
    effect: Any


class _World:
    """Types, and the objects of each."""

    def __init__(self) -> None:
        self.above: dict[str, str] = {}
        self.objects: dict[str, str] = {}
        self._of: dict[str, dict[str, None]] = {}

    def add(self, typed: Iterable[tuple[str, str]]) -> None:
        """Take in objects."""
        self.objects.update(typed)
        self._of.clear()

    def of(self, kind: str) -> Mapping[str, None]:
        """The objects of a type, or of one below it."""
        objects = self._of.get(kind)
        if objects is None:
            objects = {
                name: None for name, own in self.objects.items() if self._is(own, kind)
            }
            self._of[kind] = objects
        return objects

    def _is(self, own: str | None, kind: str) -> bool:
        seen = set()
        while own is not None and own not in seen:
            if own == kind:
                return True
            seen.add(own)
            own = self.above.get(own)
        return kind == "object"


# -- reading -----------------------------------------------------------------------


def read_hddl(  # noqa: C901, PLR0912, PLR0915 - a case a section
    domain: str, problem: str
) -> HddlProblem:
    """
    A problem of HDDL.

    Unordered subtasks are not interleaved.

    Args:
        domain: The text of the domain.
        problem: The text of the problem.

    Raises:
        InvalidTaskError: A text is not well formed, or has a part that is not
            supported.
    """
    world = _World()
    task_domain = Domain("hddl")
    task_domain.closed = task_domain.is_distinct = True
    actions: dict[str, _Action] = {}
    #: The arguments of tasks and actions, and of predicates if the domain declares
    #: them.
    takes: dict[str, list[str]] = {TOP: []}
    predicates: dict[str, list[str]] = {}
    methods: list[tuple[str, dict[str, Any]]] = []
    for name, *rest in _sections(_form(domain, "the domain")):
        if name == ":types":
            for kind, above in _typed(rest):
                world.above[kind] = above
        elif name == ":constants":
            world.add(_typed(rest))
        elif name == ":predicates":
            predicates |= {_name(each): _variables(each[1:]) for each in rest}
        elif name == ":task":
            members = _members(name, rest)
            takes[_name(rest)] = _variables(members.get(":parameters", []))
        elif name == ":action":
            members = _members(name, rest)
            action = _Action(
                tuple(_typed(members.get(":parameters", []))),
                members.get(":precondition", []),
                members.get(":effect", []),
            )
            actions[_name(rest)] = action
            takes[_name(rest)] = _variables(members.get(":parameters", []))
            task_domain.operator(_applying(action, world), name=_name(rest))
        elif name == ":method":
            methods.append((_name(rest), _members(name, rest)))
        elif name not in ("domain", ":requirements"):
            msg = f"the domain has {name}, which is not read"
            raise InvalidTaskError(msg, hint="leave out numbers and constraints")
    atoms: dict[Any, bool] = {}
    goal: Any = None
    title, top = "problem", None
    for name, *rest in _sections(_form(problem, "the problem")):
        if name == "problem":
            title = _name(rest)
        elif name == ":objects":
            world.add(_typed(rest))
        elif name == ":init":
            _check_atoms("the problem", ["and", *rest], _CONDITION, [], predicates)
            atoms = {tuple(map(str, atom)): True for atom in rest}
        elif name == ":goal":
            goal = rest[0] if rest else None
            _check_atoms("the problem", goal, _CONDITION, [], predicates)
        elif name in (":htn", ":htn-tihn"):
            top = _members(":htn", [name, *rest])
        elif name not in (":domain", ":requirements"):
            msg = f"the problem has {name}, which is not read"
            raise InvalidTaskError(msg)
    if top is None:
        msg = "the problem has no :htn, and so nothing to do"
        raise InvalidTaskError(msg)
    for name, action in actions.items():
        variables = takes[name]
        for form, words in ((action.needs, _CONDITION), (action.effect, _EFFECT)):
            _check_atoms(f"action {name}", form, words, variables, predicates)
    top = {**top, ":task": [TOP]}
    places = [(f"method {name}", name, members) for name, members in methods]
    for place, name, members in [*places, ("the problem", "top", top)]:
        task = members.get(":task")
        if not isinstance(task, list) or not task:
            msg = f"{place} says no :task"
            raise InvalidTaskError(msg)
        variables = _variables(members.get(":parameters", []))
        _check_count(place, task, task, takes, "task and no action")
        for step in _subtasks(members)[0].values():
            _check_count(place, step, variables, takes, "task and no action")
        for key in (":precondition", ":constraints"):
            form = members.get(key)
            _check_atoms(place, form, _CONDITION, variables, predicates)
        task_domain.method(str(task[0]), name=name)(_decomposing(members, world))
    return HddlProblem(task_domain, title, atoms, goal, actions, world)


def _check_count(
    place: str,
    form: Any,
    variables: Iterable[str],
    takes: Mapping[str, Sequence[str]],
    kind: str,
) -> None:
    """
    Refuse a name that is unknown, or has a wrong number of arguments, or unknown ones.

    Raises:
        InvalidTaskError: It is not so.
    """
    is_flat = isinstance(form, list) and all(isinstance(word, str) for word in form)
    if not is_flat or not form:
        msg = f"{place} has {_text(form)}, which is no {kind}"
        raise InvalidTaskError(msg)
    name, *args = form
    if name not in takes:
        names = [each for each in takes if each != TOP]
        msg = f"{place} has {name}, which is no {kind}"
        raise InvalidTaskError(msg + guess(name, names))
    if len(args) != len(takes[name]):
        needed = " ".join(takes[name]) or "nothing"
        msg = f"{place} has {_text(form)}, and {name} takes {needed}"
        raise InvalidTaskError(msg, hint=f"{len(takes[name])}, and not {len(args)}")
    for word in args:
        if word[:1] == "?" and word not in variables:
            msg = f"{place} has {word} in {_text(form)}, which is none of its variables"
            raise InvalidTaskError(msg + guess(word, variables))


def _check_atoms(
    place: str,
    condition: Any,
    words: Mapping[str, int],
    variables: Sequence[str],
    predicates: Mapping[str, Sequence[str]],
) -> None:
    """
    Look at all atoms of a condition or an effect, by the predicates of the domain.

    Raises:
        InvalidTaskError: A predicate is not there, has another number of arguments or
            a variable that is not there; or it is no condition.
    """
    stack = [(condition, words, [*variables])]
    while stack:
        form, words, scope = stack.pop()
        if not form:
            continue
        word, *rest = form if isinstance(form, list) else [form]
        count = words.get(word, 0) if isinstance(word, str) else 0
        if not isinstance(form, list) or (count and count != len(rest)):
            msg = f"{place} has {_text(form)}, which is no condition and no effect"
            raise InvalidTaskError(msg)
        if word == "=" or not isinstance(word, str) or word not in words:
            # A domain may leave out the declaration of its predicates.
            takes = predicates if word != "=" else {}
            takes = takes or {str(word): rest}
            _check_count(place, form, scope, takes, "predicate")
        elif word == "when":
            stack += [(rest[0], _CONDITION, scope), (rest[1], words, scope)]
        elif word in ("forall", "exists"):
            stack.append((rest[1], words, scope + _variables(rest[0])))
        else:
            stack += [(each, words, scope) for each in rest]


def _text(form: Any) -> str:
    """A form, as it is written."""
    if not isinstance(form, list):
        return str(form)
    return f"({' '.join(map(_text, form))})"


def _form(text: str, source: str) -> Form:
    """
    A text as nested lists of words.

    Raises:
        InvalidTaskError: Its brackets do not fit.
    """
    stack: list[list[Form]] = [[]]
    plain = re.sub(r";[^\n]*", "", text).lower()
    for token in _TOKEN.findall(plain):
        if token == "(":  # noqa: S105 - a bracket
            stack.append([])
        elif token == ")":  # noqa: S105 - a bracket
            if len(stack) == 1:
                msg = f"{source} closes a bracket that was not opened"
                raise InvalidTaskError(msg)
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) > 1 or len(stack[0]) != 1:
        msg = f"{source} is no single form: {len(stack) - 1} brackets are left open"
        raise InvalidTaskError(msg, hint="count the brackets")
    return stack[0][0]


def _sections(form: Form) -> Iterator[list[Any]]:
    if not isinstance(form, list) or form[:1] != ["define"]:
        msg = "a text of HDDL begins with (define"
        raise InvalidTaskError(msg)
    for each in form[1:]:
        if not isinstance(each, list) or not each or not isinstance(each[0], str):
            msg = f"{each} is no section"
            raise InvalidTaskError(msg)
        yield each


def _name(rest: Sequence[Any]) -> str:
    if not rest or not isinstance(rest[0], str):
        msg = "something has no name"
        raise InvalidTaskError(msg)
    return rest[0]


def _members(section: str, words: Sequence[Any]) -> dict[str, Any]:
    """
    Return the form after each keyword of a section.

    Raises:
        InvalidTaskError: A keyword is not read, or nothing stands after it.
    """
    place = f"{section} {_name(words)}"
    by_keyword: dict[str, Any] = {}
    for number in range(1, len(words), 2):
        keyword, values = str(words[number]), words[number + 1 : number + 2]
        if keyword in by_keyword or not values:
            msg = f"{place}: one form stands after {keyword}, once"
            raise InvalidTaskError(msg)
        # An empty condition is harmless.
        if values[0] and keyword not in _KEYWORDS[section]:
            msg = f"{place} has {keyword}, which is not read"
            raise InvalidTaskError(msg + guess(keyword, _KEYWORDS[section]))
        by_keyword[keyword] = values[0]
    return by_keyword


def _variables(typed: Sequence[Any]) -> list[str]:
    return [name for name, _ in _typed(typed)]


def _typed(words: Sequence[Any]) -> list[tuple[str, str]]:
    """Names with their types: `a b - block c`."""
    typed: list[tuple[str, str]] = []
    names: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "-":
            kind = next(rest, "object")
            typed += [(name, str(kind)) for name in names]
            names = []
        else:
            names.append(str(word))
    return typed + [(name, "object") for name in names]


def _subtasks(
    members: Mapping[str, Any],
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """The subtasks of a method by their labels, and which comes before which."""
    keyword = next((key for key in _SUBTASKS if key in members), "")
    ordered, form = keyword.startswith(":ordered"), members.get(keyword, [])
    listed = _parts(form)
    subtasks: dict[str, list[str]] = {}
    for number, each in enumerate(listed):
        label, step = f"#{number}", each
        if len(each) == 2 and isinstance(each[1], list):  # noqa: PLR2004 - with a label
            label, step = str(each[0]), each[1]
        if label in subtasks:
            msg = f"two subtasks are called {label}"
            raise InvalidTaskError(msg)
        subtasks[label] = step
    names = list(subtasks)
    if ordered:
        return subtasks, list(pairwise(names))
    pairs = []
    for each in _parts(members.get(":ordering", [])):
        word, *two = each or [""]
        if word != "<" or len(two) != 2 or any(one not in names for one in two):  # noqa: PLR2004
            msg = f"{_text(each)} is no order of subtasks"
            raise InvalidTaskError(msg)
        pairs.append((two[0], two[1]))
    return subtasks, pairs


def _parts(form: Any) -> list[list[Any]]:
    if not form:
        return []
    return list(form[1:]) if form[0] == "and" else [form]


# -- meaning -----------------------------------------------------------------------


def _ground(atom: Sequence[Any], bound: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(bound.get(word, word) for word in atom)


def _holds(
    form: Any, bound: Binding, has: Callable[[Any], bool], world: _World
) -> bool:
    """Return whether a condition holds; *has* says which atoms do."""
    if not form:
        return True
    word, *rest = form
    if word == "and":
        return all(_holds(each, bound, has, world) for each in rest)
    if word == "or":
        return any(_holds(each, bound, has, world) for each in rest)
    if word == "not":
        return not _holds(rest[0], bound, has, world)
    if word == "imply":
        return any(
            _holds(each, bound, has, world) for each in (["not", rest[0]], rest[1])
        )
    if word == "=":
        first, then = _ground(rest, bound)
        return first == then
    if word in ("forall", "exists"):
        every = (
            _holds(rest[1], bound | more, has, world)
            for more in _values(rest[0], world)
        )
        return all(every) if word == "forall" else any(every)
    return has(_ground(form, bound))


def _values(words: Sequence[Any], world: _World) -> Iterator[Binding]:
    typed = _typed(words)
    for objects in product(*(world.of(kind) for _, kind in typed)):
        yield {name: value for (name, _), value in zip(typed, objects, strict=True)}


def _effects(
    form: Any, bound: Binding, has: Callable[[Any], bool], world: _World
) -> tuple[set[Any], set[Any]]:
    """The atoms that an effect adds, and those that it takes away."""
    if not form:
        return set(), set()
    word, *rest = form
    if word == "not":
        return set(), {_ground(rest[0], bound)}
    parts: list[tuple[Any, Binding]] = []
    if word == "and":
        parts = [(each, bound) for each in rest]
    elif word == "when":
        parts = [(rest[1], bound)] if _holds(rest[0], bound, has, world) else []
    elif word == "forall":
        parts = [(rest[1], bound | more) for more in _values(rest[0], world)]
    else:
        return {_ground(form, bound)}, set()
    added: set[Any] = set()
    gone: set[Any] = set()
    for each, binding in parts:
        more, less = _effects(each, binding, has, world)
        added |= more
        gone |= less
    return added, gone


def _held_in(state: State) -> Callable[[Any], bool]:
    return lambda atom: bool(state.get(atom, False))


def _applying(action: _Action, world: _World) -> Callable[..., State | None]:
    def apply(state: State, *args: str) -> State | None:
        if len(args) != len(action.parameters):
            return None
        bound: Binding = {}
        for (name, kind), value in zip(action.parameters, args, strict=True):
            if value not in world.of(kind):
                return None
            bound[name] = value

        has = _held_in(state)
        if not _holds(action.needs, bound, has, world):
            return None
        added, gone = _effects(action.effect, bound, has, world)
        changes = dict.fromkeys(sorted(gone), False)
        return state.changed(changes | dict.fromkeys(sorted(added), True))

    return apply


def _decomposing(members: Mapping[str, Any], world: _World) -> Callable[..., Any]:
    """The method of a section: it yields a way for each value of its variables."""
    variables = members[":task"][1:]
    kinds = dict(_typed(members.get(":parameters", [])))
    needs = _parts(members.get(":precondition", []))
    needs += _parts(members.get(":constraints", []))
    subtasks, before = _subtasks(members)
    free = [name for name in kinds if name not in variables]
    used = [{w for w in _words(need) if w in kinds} for need in needs]

    def decompose(state: State, *args: str) -> Iterator[list[tuple[str, ...]]]:
        if len(args) != len(variables):
            takes = " ".join(variables) or "nothing"
            msg = f"{members[':task'][0]} takes {takes}, not {len(args)} arguments"
            raise PlanningError(msg)
        bound: Binding = {}
        for name, value in zip(variables, args, strict=True):
            # A constant, or a variable that occurs twice, fits one value only.
            own = name if name not in kinds and name[:1] != "?" else value
            if bound.setdefault(name, own) != value:
                return
            if name in kinds and value not in world.of(kinds[name]):
                return
        for binding in _bindings(free, kinds, bound, needs, used, state, world):
            for order in _orders(list(subtasks), before):
                yield [_ground(subtasks[label], binding) for label in order]

    return decompose


def _words(form: Any) -> Iterator[str]:
    stack = [form]
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack += each
        else:
            yield each


class _Table:
    """The atoms of one predicate that hold, indexed by the values at each place."""

    __slots__ = ("_by", "atoms")

    def __init__(self, atoms: dict[Any, None]) -> None:
        self.atoms = atoms
        self._by: dict[int, dict[str, list[Any]]] = {}

    def like(self, pattern: Sequence[str | None]) -> Iterable[Any]:
        """Return the atoms that may fit *pattern*; None stands for any value."""
        fewest: Iterable[Any] = self.atoms
        count = len(self.atoms)
        for place, value in enumerate(pattern):
            if place and value is not None:
                by = self._by.get(place)
                if by is None:
                    by = self._by[place] = {}
                    for atom in self.atoms:
                        if place < len(atom):
                            by.setdefault(atom[place], []).append(atom)
                matches = by.get(value, ())
                if len(matches) < count:
                    fewest, count = matches, len(matches)
        return fewest


def _tables(state: State) -> dict[str, _Table]:
    """The atoms that hold in a state, by their predicates."""
    layers: list[State] = []
    layer: State | None = state
    while layer is not None and layer.derived is None:
        layers.append(layer)
        layer = layer._above
    tables: dict[str, _Table] = {} if layer is None else layer.derived
    for each in reversed(layers):
        changed: dict[str, dict[Any, None]] = {}
        for atom, is_so in each._values.items():
            atoms = changed.get(atom[0])
            if atoms is None:
                table = tables.get(atom[0])
                atoms = changed[atom[0]] = {} if table is None else table.atoms.copy()
            if is_so:
                atoms[atom] = None
            else:
                atoms.pop(atom, None)
        tables = {**tables, **{name: _Table(atoms) for name, atoms in changed.items()}}
    state.derived = tables
    return tables


def _bindings(
    free: Sequence[str],
    kinds: Mapping[str, str],
    bound: Binding,
    needs: Sequence[Any],
    used: Sequence[set[str]],
    state: State,
    world: _World,
) -> Iterator[Binding]:
    """
    Values of the free variables for which all conditions hold.

    Atoms are joined over the facts that hold, the one with the fewest first. Variables
    that no atom names are tried object by object.
    """
    has = _held_in(state)
    tables = _tables(state)
    atoms = [n for n, need in enumerate(needs) if need and need[0] not in _CONDITION]
    checks = [n for n in range(len(needs)) if n not in set(atoms)]
    stack: list[tuple[Binding, list[int], list[int]]] = [(bound, atoms, checks)]
    while stack:
        binding, atoms, checks = stack.pop()
        now = [n for n in checks if used[n] <= binding.keys()]
        if not all(_holds(needs[n], binding, has, world) for n in now):
            continue
        checks = [n for n in checks if n not in now]
        if atoms:
            place, facts = _fewest(atoms, needs, binding, kinds, tables)
            others = [n for n in atoms if n != place]
            ways = _extended(needs[place], facts, binding, kinds, world)
            stack += [(each, others, checks) for each in reversed(ways)]
            continue
        name = next((name for name in free if name not in binding), None)
        if name is None:
            yield binding
            continue
        values = list(world.of(kinds[name]))
        stack += [({**binding, name: value}, [], checks) for value in reversed(values)]


def _fewest(
    atoms: Sequence[int],
    needs: Sequence[Any],
    binding: Binding,
    kinds: Mapping[str, str],
    tables: Mapping[str, _Table],
) -> tuple[int, Iterable[Any]]:
    """Return the atom that the fewest facts may fit, and these facts."""
    best: tuple[int, Any] = atoms[0], ()
    count = -1
    for n in atoms:
        table = tables.get(needs[n][0])
        pattern = [binding.get(w, None if w in kinds else w) for w in needs[n]]
        facts: Any = () if table is None else table.like(pattern)
        if count < 0 or len(facts) < count:
            best, count = (n, facts), len(facts)
        if not count:
            break
    return best


def _extended(
    atom: Sequence[str],
    facts: Iterable[Any],
    binding: Binding,
    kinds: Mapping[str, str],
    world: _World,
) -> list[Binding]:
    """Return *binding*, extended once for each of *facts* that fits the atom."""
    bindings: list[Binding] = []
    for fact in facts:
        if len(fact) != len(atom):
            continue
        more: Binding = {}
        for word, value in zip(atom, fact, strict=True):
            own = (
                binding.get(word) or more.get(word) or (None if word in kinds else word)
            )
            if own is None:
                if value not in world.of(kinds[word]):
                    break
                more[word] = value
            elif own != value:
                break
        else:
            bindings.append({**binding, **more} if more else binding)
    return bindings


def _orders(
    names: Sequence[str], before: Sequence[tuple[str, str]]
) -> Iterator[list[str]]:
    """The orders of subtasks that are allowed, first the one in which they stand."""
    stack: list[list[str]] = [[]]
    while stack:
        done = stack.pop()
        if len(done) == len(names):
            yield done
            continue
        ready = [
            name
            for name in names
            if name not in done
            and all(first in done for first, then in before if then == name)
        ]
        stack += [[*done, name] for name in reversed(ready)]
