"""
Commands with several acts, as `taskorch schedules JOURNAL|URL pause NAME`.

An act is a verb whose `command=` names it. The table of verbs has its arguments, its
options, a preview, and the calls here or at a service. An `ActGroup` adds the spelling
of options, and the output.

Decision: verbs-and-front-ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import attrs

from taskorch.api.verbs.table import VERBS, acts_of, as_json
from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._control import (
    at,
    call,
    in_help,
    kind_of,
    tell_foreseen,
    touched,
)
from taskorch.ext.command_line._terminal import (
    add_json,
    line,
    parameters_of,
    print_json,
)
from taskorch.kit.verbs import Argument, Verb
from taskorch.kit.words import some

#: Arguments that a token may give, and their places in the parsed arguments.
_WHO: Final = {"by": "by", "requested_by": "by"}


def _texts(_: argparse.Namespace, answer: Any) -> list[str]:
    """Yield the text of an answer, or of each entry in it."""
    documents = answer if isinstance(answer, list) else [answer]
    return [line(each["text"]) for each in documents]


@attrs.frozen
class ActView:
    """The command line of an act: its options and its output."""

    #: The text after a change, and its addition if nothing had to change.
    done: tuple[str, str] = ("", "")
    lines: Callable[[argparse.Namespace, Any], Iterable[str]] = _texts
    #: The text for an empty answer.
    none: str = ""
    #: Does the act with the arguments of the verb, instead of the usual call.
    call: Callable[[argparse.Namespace, Any, dict[str, Any]], Any] | None = None
    #: Defaults for the verb: values, or functions that make them.
    says: Mapping[str, Any] = attrs.field(factory=dict)
    #: The name of its verb in a program, if the verb has another command.
    path: str = ""
    #: Options of its own.
    takes: tuple[str, ...] = ()
    code: Callable[[Any], int] = lambda answer: FAILED if answer is False else OK
    verb: Verb | None = None
    #: The arguments that are options, by their places in the parsed arguments.
    options: Mapping[str, Argument] = attrs.field(factory=dict)

    def subject(self, names: list[str]) -> dict[str, str]:
        """Return the named subject, as JSON has it."""
        words = () if self.verb is None else map(str.lower, self.verb.command_words)
        return dict(zip(words, names, strict=False))


@attrs.frozen
class ActGroup:
    """A command with its acts."""

    acts: Mapping[str, ActView]
    #: The metavar and the help of options, in the order of the help.
    options: Mapping[str, tuple[str | None, str]]
    place: Callable[[argparse.ArgumentParser], None]
    #: The words behind an act: their metavar, their number, and the help.
    names: tuple[str, str | None, str]
    #: Functions that add options of its own, before and behind the others.
    begin: Callable[[argparse.ArgumentParser], object] = lambda _: None
    end: Callable[[argparse.ArgumentParser], object] = lambda _: None
    at: Callable[[argparse.Namespace], AbstractContextManager[Any]] = lambda args: at(
        args.journal
    )
    what: str = "what to do (list)"

    def acts_of(self, command: str) -> dict[str, ActView]:
        """Return all acts: the ones with a view here, and all other verbs."""
        paths = acts_of(command)
        named = {**dict.fromkeys(paths, ActView()), **self.acts}
        acts = {}
        for name in dict.fromkeys((*self.acts, *paths)):
            act = named[name]
            path = act.path or paths.get(name, "")
            verb = VERBS[path] if path else None
            options = {
                _WHO.get(each.name, each.name): each
                for each in (() if verb is None else verb.options)
                if each.name not in act.says or each.name in self.options
            }
            acts[name] = attrs.evolve(act, path=path, verb=verb, options=options)
        return acts


def add_arguments(parser: argparse.ArgumentParser, group: ActGroup) -> None:
    """Add the arguments of the command of *parser*, which is a group."""
    command = parser.prog.rpartition(" ")[2]
    acts = group.acts_of(command)
    group.place(parser)
    if [*acts] != [""]:
        parser.add_argument("act", choices=acts, nargs="?", help=group.what)
    metavar, count, text = group.names
    parser.add_argument("names", metavar=metavar, nargs=count, help=text)
    group.begin(parser)
    options = {
        place: each for act in acts.values() for place, each in act.options.items()
    }
    for place in sorted(options, key=[*group.options, *options].index):
        of = ", ".join(f"`{name}`" for name in acts if place in acts[name].options)
        default = None, f"of {of}: {in_help(options[place])}"
        _add_option(parser, place, options[place], *group.options.get(place, default))
    group.end(parser)
    previews = [f"`{name}`" for name in acts if _has_preview(acts[name])]
    if previews:
        text = f"of {', '.join(previews)}: only say what it would touch"
        parser.add_argument("--dry-run", action="store_const", const=True, help=text)
    own = [place for act in acts.values() for place in act.takes]
    own += ["dry_run"] if previews else []
    flags = {**dict.fromkeys(own), **options}
    flags = {place: _flag(place, each) for place, each in flags.items()}
    flags |= {
        place: f"{flags[place]} {metavar}"
        for place, (metavar, _) in group.options.items()
        if metavar
    }
    parser.set_defaults(
        run=_run, group=group, acts=acts, command=command, flags=flags, more=[]
    )
    add_json(parser)


def _has_preview(act: ActView) -> bool:
    return act.verb is not None and bool(act.verb.preview)


def _add_option(
    parser: argparse.ArgumentParser,
    place: str,
    argument: Argument,
    metavar: str | None,
    text: str,
) -> None:
    form = argument.form.get("type")
    kind: dict[str, Any] = {"metavar": metavar, **kind_of(argument)}
    if form == "boolean":
        kind = {"action": "store_const", "const": True}
    elif _has_several(argument):
        kind = {"metavar": metavar, "action": "append"}
    elif form == "object":
        kind = {"metavar": metavar}
    parser.add_argument(_flag(place, argument), dest=place, help=text, **kind)


def _has_several(argument: Argument) -> bool:
    """Return whether an option may be given several times."""
    return argument.form.get("type") == "array" or argument.name == "parameters"


def _flag(place: str, argument: Argument | None) -> str:
    """Return the spelling of an option."""
    name = place.replace("_", "-")
    if argument is not None and _has_several(argument):
        # Each occurrence has one value, so that its name is singular.
        name = name.removesuffix("s")
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _run(args: argparse.Namespace) -> int:
    names = [args.names] if isinstance(args.names, str) else [*(args.names or ())]
    # argparse accepts optional words only before the options.
    args.names = [*names, *args.more]
    args.act = getattr(args, "act", "")
    if args.act is None:
        is_act = bool(args.names) and args.names[0] in args.acts
        args.act = args.names.pop(0) if is_act else "list"
    act: ActView = args.acts[args.act]
    arguments = _said(args, act)
    with args.group.at(args) as orch:
        if getattr(args, "dry_run", None):
            document = touched(orch, act.path, arguments)
            tell_foreseen(args, act.subject(args.names), document)
            return OK
        if act.call is not None:
            answer = act.call(args, orch, arguments)
        else:
            answer = call(orch, act.path, **arguments)
        _tell(args, act, answer)
    return act.code(answer)


def _said(args: argparse.Namespace, act: ActView) -> dict[str, Any]:
    """
    Return the given arguments of the verb, by their names.

    Raises:
        InvalidTaskError: An argument is missing, or is not for this act.
    """
    title = f"{args.command} {args.act}".rstrip()
    hint = f"taskorch {args.command} --help"
    allowed = {*act.options, *act.takes, *(["dry_run"] if _has_preview(act) else [])}
    for place, flag in args.flags.items():
        if getattr(args, place, None) is not None and place not in allowed:
            msg = f"{title} takes no {flag}"
            raise InvalidTaskError(msg, hint=hint)
    if act.verb is None:
        return {}
    usual = {k: v(args) if callable(v) else v for k, v in act.says.items()}
    arguments = {name: each for name, each in usual.items() if each is not None}
    missing = [*_named(args.names, act.verb, arguments)]
    for place, argument in act.options.items():
        value = getattr(args, place)
        if value is not None:
            arguments[argument.name] = _read(args.flags[place], argument, value)
        elif argument.is_needed and not argument.says_who:
            missing.append(args.flags[place])
    if missing:
        msg = f"{title}: {some(missing)} must be said"
        raise InvalidTaskError(msg, hint=hint)
    several = act.verb.command.partition(":")[0].endswith("...")
    if len(args.names) > len(act.verb.command_words) and not several:
        msg = f"{title}: {args.names[-1]!r} is one name too many"
        raise InvalidTaskError(msg, hint=hint)
    return arguments


def _read(flag: str, argument: Argument, value: Any) -> Any:
    """
    Return the value of an option, as the verb takes it.

    Raises:
        InvalidTaskError: It is no JSON, and no object.
    """
    if argument.form.get("type") != "object":
        return value
    if argument.name == "parameters":
        return parameters_of(value)
    try:
        document = json.loads(value)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        msg = f"{flag}: {value!r} is no JSON, or is no object"
        raise InvalidTaskError(msg, hint="as '{\"max_concurrency\": 2}'")
    return document


def _named(names: list[str], verb: Verb, arguments: dict[str, Any]) -> Iterator[str]:
    """Enter the words behind an act, and refuse an act without them."""
    rest = iter(names)
    for word, argument in zip(verb.command_words, verb.arguments, strict=False):
        value = [*rest] if word.endswith("...") else next(rest, None)
        if value:
            arguments[argument.name] = value
        elif argument.is_needed:
            yield word.removesuffix("...")


def _tell(args: argparse.Namespace, act: ActView, answer: Any) -> None:
    """Show an answer: a change in the words of its act, others as the act does."""
    is_change = answer is None or isinstance(answer, bool)
    if getattr(args, "json", False):
        changed = {} if answer is None else {"changed": answer}
        subject = act.subject(args.names)
        document = {**subject, **changed} if is_change else as_json(answer)
        for each in document if isinstance(document, list) else [document]:
            print_json(each)
    elif is_change:
        words, before = act.done
        print(f"{line(args.names[0])} {words}{before if answer is False else ''}")
    else:
        text = "\n".join(act.lines(args, as_json(answer))) or act.none
        if text:
            print(text)
