"""An option is added to the description of a task, and nothing else is written for it."""

from __future__ import annotations

import pytest
from tests.house.tools.extensions import SOURCE, told_with

FIELD = """\
    owner: str | None = attrs.field(
        default=None, kw_only=True, metadata=option("name", kind=True, match="equal")
    )
"""

STORY = """
import json
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from taskorch import Task, TaskOrchestrator, Workflow, task
from taskorch.ext.command_line import main
from taskorch.ext.client import Client
from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.ext.service import create_app, new_token, serve
from taskorch.model import TaskFilter
from taskorch.ext.views import JournalReader
from taskorch.testing import Simulation, strategies
from taskorch.api.workflows import document_schema

folder = Path(tempfile.mkdtemp())

# Validation, with its place; the decorator; a text for people.
with TaskOrchestrator() as orch:
    with pytest.raises(ValidationFailedError, match="colour: .* has a space"):
        orch.submit_task(Task.call(int, colour=" red"))

    @task(colour="red")
    def work():
        return 1

    orch.submit_tasks([Task.call(work), Task.call(work, colour="blue"), Task.call(int)])
    orch.wait()
    assert len(list(orch.tasks(colour="red"))) == 1
with pytest.raises(TypeError, match="colour"):
    Task("t", color="red")

# Documents and their schema.
wf = Workflow("w")
wf.task(int, id="a", colour="red")
functions = {"int": int}
said = wf.to_dict(functions)
assert said["tasks"]["a"]["colour"] == "red", said
jsonschema.validate(said, document_schema())
again = Workflow.from_dict(said, functions)
assert again.to_dict(functions) == said
about = document_schema()["$defs"]["options"]["properties"]["colour"]
assert about["description"] == "What it is painted with.", about
with pytest.raises(jsonschema.ValidationError):
    said["tasks"]["a"]["colour"] = 5
    jsonschema.validate(said, document_schema())
with pytest.raises(ValidationFailedError, match=r"tasks.a.colour: a text is needed"):
    Workflow.from_dict(said, functions)

# What may change, and tasks of a kind; journal, reader, command line.
path = str(folder / "runs.db")
with TaskOrchestrator(journal=path) as orch:
    orch.submit_task(Task.call(int, id="x", colour="red", not_before=3600))
    orch.submit_task(Task.call(int, id="x", colour="blue", not_before=3600))
    orch.submit_tasks([Task.call(int, n, id=f"n/{n}", colour="red") for n in range(9)])
    [handle.result() for handle in map(orch.handle, [f"n/{n}" for n in range(9)])]
    orch.stop(drain=False)
reader = JournalReader(path)
assert [s.task_id for s in reader.tasks(colour="blue")] == ["x"]
assert len(list(reader.tasks("completed", colour="red"))) == 9
with TaskOrchestrator(journal=path) as orch:
    assert len(list(orch.tasks(TaskFilter(colour="red")))) == 9
    orch.cancel_task("x")
assert main(["inspect", path, "--colour", "blue"]) == 0

# Filters of every face.
query = TaskFilter("failed", colour="red").to_query()
assert query == {"state": "failed", "colour": "red"}
assert TaskFilter.from_query(query) == TaskFilter("failed", colour="red")
with pytest.raises(InvalidTaskError, match="colour: a text is needed"):
    TaskFilter(colour=5)
simulation = Simulation(seed=1)
simulation.submit_task(Task.wait_for("go", id="a", colour="red"))
assert [s.task_id for s in simulation.tasks(colour="red")] == ["a"]

with TaskOrchestrator() as orch:
    token = new_token()
    app = create_app(orch, token=token, functions={"int": int})
    with serve(app, port=0) as server:
        client = Client(server.url, token=token, functions={"int": int})
        client.submit_tasks([Task.call(int, id="a", colour="red"), Task.call(int)])
        found = list(client.tasks(colour="red"))
        assert [each["task_id"] for each in found] == ["a"], found
        request = Request(server.url + "/openapi.json")
        request.add_header("Authorization", "Bearer " + token)
        api = json.load(urlopen(request))
        names = {p["name"] for p in api["paths"]["/api/v1/tasks"]["get"]["parameters"]}
        assert "colour" in names, names


# Strategies.
colours = set()


@settings(
    max_examples=50,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(strategies.tasks())
def draw(drawn):
    colours.add(drawn.colour)


draw()
assert len(colours) > 1, colours
print("all of it")
"""


@pytest.mark.slow("asks all that takes tasks")
def test_an_option_is_added_at_its_field_and_is_everywhere(tmp_path):
    """A line for its field, one for its text; `TypedDict`s are for checkers alone."""
    place = "model/_task.py"
    text = (SOURCE / place).read_text()
    assert text.count(FIELD) == 1
    text = text.replace(FIELD, FIELD + FIELD.replace("owner", "colour"))
    text = text.replace(
        "        owner: Its tenant",
        "        colour: What it is painted with.\n        owner: Its tenant",
    )
    done = told_with({place: text}, STORY, tmp_path)
    assert done.stdout.endswith("all of it\n"), done.stdout + done.stderr
