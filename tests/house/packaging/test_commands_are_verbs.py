"""A command says a verb of the table, or stands here with the reason."""

from __future__ import annotations

import argparse
import re

import pytest

from taskorch.api.verbs.remedies import in_commands, in_requests
from taskorch.api.verbs.table import VERBS, acts_of, commands
from taskorch.ext.command_line import COMMANDS, main, whole_parser

#: Commands that say verbs by hand: why. No more than eight.
SAYS_VERBS = {
    "run": "it takes a file, which may make the orchestrator",
    "simulate": "it takes a file, and no orchestrator",
    "inspect": "it reads a journal that somebody else has, as of any moment",
    "explain": "it reads a journal that somebody else has, as of any moment",
    "logs": "it follows files",
    "runs": "a run of one task has other verbs than one of a workflow",
    "prune": "it opens a journal that need not be read to its end",
    "doctor": "it looks at this machine, too",
}
#: Commands that say no verb: what they are.
OTHERS = {
    **dict.fromkeys(("plan", "suite", "workspace"), "they run what files describe"),
    **dict.fromkeys(("serve", "mcp", "agent"), "they stay, and serve"),
    **dict.fromkeys(
        ("copy", "migrate", "verify", "checkpoint", "prove"), "of journals"
    ),
    **dict.fromkeys(("completion", "demo", "skill"), "of this program itself"),
    "alerts": "`orch.alerts` is no verb: its first use would have them act",
    "top": "it shows what the service tells its dashboard",
    "jobs": "it asks a system of jobs",
    "tokens": "it changes a file, or the tokens of a service",
    "policy": "it checks files of policies",
}
#: Acts of groups that are no verbs.
ACTS = {"schedules add": "a service takes no new ones: a verb would be one over HTTP"}


def parsers():
    (action,) = (
        each
        for each in whole_parser()._actions
        if isinstance(each, argparse._SubParsersAction)
    )
    return action.choices


def groups():
    """The commands with acts, or of one act, that are made of the table."""
    return {
        name: parser.get_default("acts")
        for name, parser in parsers().items()
        if parser.get_default("group") is not None
    }


GROUPS = groups()


def test_each_command_says_a_verb_of_the_table_or_is_listed_with_the_reason():
    derived = {*commands()} | {*GROUPS}
    by_hand = {*COMMANDS} - derived
    assert by_hand == {*SAYS_VERBS, *OTHERS}
    assert len(SAYS_VERBS) <= 8
    acts = {
        f"{command} {name}": act.verb
        for command, every in GROUPS.items()
        for name, act in every.items()
    }
    assert {title for title, verb in acts.items() if verb is None} == {*ACTS}


def test_a_verb_without_a_command_names_the_one_that_says_it():
    named = {
        word
        for verb in VERBS.values()
        for word in re.findall(r"`([a-z]+)`", verb.lacks.get("command", ""))
    }
    assert named <= {*SAYS_VERBS, *GROUPS}
    assert {verb.command_name for verb in VERBS.values()} <= {*COMMANDS, ""}


@pytest.mark.parametrize("command", GROUPS)
def test_a_verb_that_names_a_command_is_an_act_of_it(command):
    """Whatever its views say: an act that these do not know is there all the same."""
    acts = GROUPS[command]
    assert (
        acts_of(command).items()
        <= {name: act.path for name, act in acts.items()}.items()
    )
    options = parsers()[command].get_default("flags")
    for act in acts.values():
        assert {*act.options, *act.takes} <= {*options}
        if act.verb is not None:
            words = sum(word.count("+") + 1 for word in act.verb.command_words)
            assert words + len(act.verb.options) == len(act.verb.arguments)


def spelt(parser, place):
    """An option, with a value that it takes."""
    (action,) = (each for each in parser._actions if each.dest == place)
    value = [next(iter(action.choices))] if action.choices else ["1"]
    return [action.option_strings[0], *([] if action.nargs == 0 else value)]


@pytest.mark.parametrize("command", GROUPS)
def test_an_option_that_is_not_for_an_act_is_refused(command, capsys):
    parser = parsers()[command]
    for number, (name, act) in enumerate(GROUPS[command].items()):
        known = {*act.options, *act.takes}
        if act.verb is not None and act.verb.preview:
            known.add("dry_run")
        others = sorted(parser.get_default("flags").keys() - known)
        # A third of them, and others of the next act.
        for place in others[number % 3 :: 3] or others:
            words = [command, "http://127.0.0.1:1", *([name] if name else []), "x"]
            assert main([*words, *spelt(parser, place)]) == 2
            said = capsys.readouterr().err
            assert f"{command} {name}".rstrip() + " takes no --" in said or (
                place == "n" and "takes no -n" in said
            )


@pytest.mark.parametrize(
    "command", [name for name, acts in GROUPS.items() if "" not in acts]
)
def test_what_an_act_needs_is_named_if_it_is_missing(command, capsys):
    for name, act in GROUPS[command].items():
        if act.verb is None:
            continue
        words = zip(act.verb.command_words, act.verb.arguments, strict=False)
        needed = [word for word, each in words if each.is_needed]
        if needed:
            assert main([command, "http://127.0.0.1:1", name]) == 2
            assert needed[0].removesuffix("...") in capsys.readouterr().err


def test_words_behind_the_options_are_read(tmp_path, capsys):
    path = str(tmp_path / "none.db")
    for words in (["pause", "daily"], ["backfills", "daily"]):
        assert main(["schedules", path, "--json", *words]) == 2
        assert "none.db" in capsys.readouterr().err
    assert main(["schedules", path, "--json", "daily"]) == 2
    assert "one name too many" in capsys.readouterr().err


URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("call", "command", "request_"),
    [
        ("schedules.resume('x')", "schedules {} resume x", "/schedules/x/resume"),
        ("schedules.trigger('x')", "schedules {} trigger x", "/schedules/x/trigger"),
        ("agents.drain('a')", "agents {} drain a", "/agents/a/drain"),
        (
            "agents.drain('a', on=False)",
            "agents {} undrain a",
            '/agents/a/drain {"on": false}',
        ),
        (
            "rerun_task('a', downstream=True)",
            "rerun {} a --downstream",
            '/tasks/a/rerun {"downstream": true}',
        ),
        (
            "rerun_task('a', downstream=False)",
            "rerun {} a --no-downstream",
            '/tasks/a/rerun {"downstream": false}',
        ),
    ],
)
def test_what_is_to_be_done_is_an_act_with_all_that_the_call_says(
    call, command, request_
):
    text = f"Call orch.{call}."
    words = command.format(URL)
    assert in_commands(text, URL) == f"taskorch {words}"
    assert whole_parser().parse_args(words.split())
    assert in_requests(text) == f"POST /api/v1{request_}"
    if "agents" in call:
        # A journal has no workers.
        assert in_commands(text, "runs.db") == text


def test_the_help_shows_each_command_once_and_in_a_group(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "others:" not in shown
    for name, (purpose, _) in COMMANDS.items():
        rows = [row for row in shown.splitlines() if row.startswith(f"  {name} ")]
        assert [row.split(maxsplit=1)[1] for row in rows] == [purpose]
    assert max(map(len, shown.splitlines())) <= 80
