"""
A validator of your own: what a task of each type must carry, checked before anything
is queued. Every fault is named at once, with the place where it stands.
"""

from collections.abc import Mapping

from taskorch import Task, TaskContext, TaskOrchestrator, ValidationFailedError
from taskorch.protocols import Context, Finding, Verdict

SCHEMAS: dict[str, dict[str, type]] = {
    "resize": {"path": str, "width": int, "height": int},
}


class PayloadValidator:
    def __init__(self, schemas: Mapping[str, Mapping[str, type]]) -> None:
        self.schemas = schemas

    def validate(self, task: Task, context: Context) -> Verdict:
        is_mapping = isinstance(task.payload, Mapping)
        payload: Mapping[str, object] = task.payload if is_mapping else {}
        findings: list[Finding] = []
        for name, kind in self.schemas.get(task.type, {}).items():
            if name not in payload:
                findings.append(Finding(f"payload.{name}", "is missing"))
            elif not isinstance(payload[name], kind):
                message = f"must be {kind.__name__}, not {payload[name]!r}"
                findings.append(Finding(f"payload.{name}", message))
        return Verdict(tuple(findings))


orch = TaskOrchestrator(validator=PayloadValidator(SCHEMAS))


@orch.agent("images", capabilities={"resize"})
def resize(task: Task, context: TaskContext) -> str:
    return f"{task.payload['path']} is {task.payload['width']} wide"


def main() -> None:
    with orch:
        good = {"path": "cat.png", "width": 640, "height": 480}
        print(orch.submit_task(Task("resize", good)).result())
        try:
            orch.submit_task(Task("resize", {"path": "dog.png", "width": "wide"}))
        except ValidationFailedError as error:
            for path, message in error.findings:
                print(f"refused: {path} {message}")


if __name__ == "__main__":
    main()
