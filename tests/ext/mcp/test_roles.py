"""Each tool, for each role: who may do what it does may use it, and nobody else."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from tests.ext.mcp.tools import at_service, run
from tests.ext.people.test_roles import DONE, PEOPLE, house_in, may

from taskorch.api.verbs.table import VERBS

#: What each tool that changes something is told, and the verb that it then does.
CASES = {
    "answer": [({"question": "ask", "choice": "approve"}, "answer")],
    "cancel": [({"task": "x"}, "cancel_task")],
    "hold": [
        ({"task": "x"}, "suspend_task"),
        ({"reason": "a look"}, "hold_starts"),
    ],
    "release": [({"task": "x"}, "resume_task"), ({}, "release_starts")],
    "reprioritise": [({"task": "x", "priority": 1}, "set_priority")],
    "rerun": [
        ({"task": "x"}, "rerun_task"),
        ({"task": "x", "at": "one"}, "steps.fork"),
    ],
}
#: Tasks that come are no verb: `test_people` has who may submit.
OTHERS = {"submit"}


@dataclass
class Served:
    server: object
    token: str


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roles")
    with house_in(folder, mcp=[*CASES, *OTHERS]) as made:
        yield made


@pytest.mark.parametrize("who", PEOPLE)
def test_a_tool_does_what_the_roles_of_its_user_allow(house, who):
    # Of what waits for named people, a model is none: only a program of that name is.
    is_person = who != "own"

    async def story():
        async with at_service(Served(house.server, house.tokens[who])) as client:
            offered = {each.name for each in (await client.list_tools()).tools}
            for name, cases in CASES.items():
                acts = [may(who, VERBS[verb]) for _, verb in cases]
                assert (name in offered) == any(acts), (who, name)
                for (arguments, verb), is_allowed in zip(cases, acts, strict=True):
                    await tried(client, name, arguments, verb, is_allowed=is_allowed)

    async def tried(client, name, arguments, verb, *, is_allowed):
        where = who, name, verb
        try:
            answer = await client.call_tool(name, arguments)
        except Exception as error:
            said = str(error)
        else:
            said = json.dumps([each.text for each in answer.content])
        done, DONE[:] = [*DONE], []
        if name == "answer" and is_person and is_allowed:
            assert "is for people" in said, where
            assert not done, where
        elif is_allowed:
            ((call, caller, arguments),) = done
            assert (call, caller) == (verb, who), (where, said)
            name_of_tool = "mcp" if is_person else who
            assert arguments.get("by", name_of_tool) == name_of_tool, where
        else:
            assert not done, where
            assert f"the role {VERBS[verb].role}" in said, (where, said)

    run(story())
