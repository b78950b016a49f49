"""
`taskorch completion`: a script with which a shell completes commands and options.

It is made from the parser, so that it is complete, and starts no Python when a key is
pressed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

import attrs

from taskorch.ext.command_line import OK, whole_parser

_SHELLS: Final = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "shell",
        choices=_SHELLS,
        help='bash: eval "$(taskorch completion bash)" in ~/.bashrc; zsh: the same in '
        "~/.zshrc, after compinit; fish: taskorch completion fish > "
        "~/.config/fish/completions/taskorch.fish",
    )


def _run(args: argparse.Namespace) -> int:
    places = list(_places(whole_parser(), ""))
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](places))
    return OK


@attrs.frozen
class _CommandPlace:
    """The words that can follow some commands."""

    #: The commands: "" or "/suite/run".
    path: str
    #: The words that can follow, each with its purpose.
    commands: dict[str, str]
    options: dict[str, str]
    #: The choices of options, and of an argument ("").
    choices: dict[str, tuple[str, ...]]


def _places(parser: argparse.ArgumentParser, path: str) -> Iterator[_CommandPlace]:
    commands: dict[str, str] = {}
    options: dict[str, str] = {}
    choices: dict[str, tuple[str, ...]] = {}
    below: list[tuple[str, argparse.ArgumentParser]] = []
    actions: list[Any] = parser._actions  # noqa: SLF001 - argparse shows them nowhere else
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            helps = {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001
            for name, command in action.choices.items():
                commands[name] = helps.get(name, "")
                below.append((f"{path}/{name}", command))
            continue
        for option in action.option_strings:
            options[option] = (action.help or "").replace("\n", " ")
        if action.choices:
            words = tuple(map(str, action.choices))
            choices.update(dict.fromkeys(action.option_strings or [""], words))
    yield _CommandPlace(path, commands, options, choices)
    for place, command in below:
        yield from _places(command, place)


def _quoted(text: str) -> str:
    """Return *text* as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _walk(places: list[_CommandPlace], words: str) -> str:
    """Return code, for bash and zsh, that finds the commands typed so far."""
    paths = "|".join(place.path for place in places if place.path)
    return f"""\
    local at="" word
    for word in {words}; do
        case "$at/$word" in
            {paths}) at="$at/$word" ;;
        esac
    done"""


def _bash(places: list[_CommandPlace]) -> str:
    lines = ["_taskorch() {", '    local cur="${COMP_WORDS[COMP_CWORD]}"']
    lines += ['    local before="${COMP_WORDS[COMP_CWORD-1]}" found=""']
    lines += [_walk(places, '"${COMP_WORDS[@]:1:COMP_CWORD-1}"')]
    lines += ['    case "$at $before" in']
    for place in places:
        for option, values in place.choices.items():
            if option:
                case = f'"{place.path} {option}") found="{" ".join(values)}" ;;'
                lines += [f"        {case}"]
    lines += ["    esac", '    if [ -z "$found" ]; then case "$at" in']
    for place in places:
        words = [*place.commands, *place.choices.get("", ())]
        lines += [f'        "{place.path}") found="{" ".join(words)}"']
        text = " ".join(place.options)
        lines += [f'            case "$cur" in -*) found="{text}" ;; esac ;;']
    lines += ["    esac; fi"]
    lines += ['    COMPREPLY=($(compgen -W "$found" -- "$cur"))', "}"]
    lines += ["complete -o default -F _taskorch taskorch"]
    return "\n".join(lines)


def _zsh(places: list[_CommandPlace]) -> str:
    def described(help_texts: dict[str, str]) -> str:
        return " ".join(
            _quoted(f"{word}:{help_text}".replace("\\", ""))
            for word, help_text in help_texts.items()
        )

    lines = ["#compdef taskorch", "_taskorch() {", "    local -a found"]
    lines += [_walk(places, '"${(@)words[2,CURRENT-1]}"')]
    lines += ['    case "$at ${words[CURRENT-1]}" in']
    for place in places:
        for option, words in place.choices.items():
            if option:
                values = " ".join(words)
                lines += [
                    f'        "{place.path} {option}") compadd -- {values}; return ;;'
                ]
    lines += ["    esac", '    case "$at" in']
    for place in places:
        commands = dict(place.commands) | dict.fromkeys(place.choices.get("", ()), "")
        lines += [f'        "{place.path}") if [[ ${{words[CURRENT]}} == -* ]]']
        lines += [f"            then found=({described(place.options)})"]
        lines += [f"            else found=({described(commands)}); fi ;;"]
    lines += [
        "    esac",
        "    (( $#found )) && _describe 'taskorch' found || _files",
        "}",
    ]
    lines += ["compdef _taskorch taskorch"]
    return "\n".join(lines)


def _fish(places: list[_CommandPlace]) -> str:
    paths = " ".join(place.path for place in places if place.path)
    lines = ["function __taskorch_at", "    set -l at ''"]
    lines += ["    for word in (commandline -opc)[2..-1]"]
    lines += [
        f"        if contains -- $at/$word {paths}",
        "            set at $at/$word",
    ]
    lines += ["        end", "    end", '    test "$at" = "$argv[1]"', "end"]
    for place in places:
        start = f"complete -c taskorch -n '__taskorch_at \"{place.path}\"'"
        for word, help_text in place.commands.items():
            lines += [f"{start} -f -a {word} -d {_quoted(help_text)}"]
        for word in place.choices.get("", ()):
            lines += [f"{start} -f -a {word}"]
        for option, help_text in place.options.items():
            kind = "-l" if option.startswith("--") else "-s"
            text = f"{start} {kind} {option.lstrip('-')} -d {_quoted(help_text)}"
            if option in place.choices:
                text += f" -x -a {_quoted(' '.join(place.choices[option]))}"
            lines += [text]
    return "\n".join(lines)
