"""An executor that makes each call in a program of its own, at a low priority."""

import pickle
import sys
from base64 import b64decode
from typing import Any
from uuid import uuid4

from taskorch import Program, TaskOrchestrator
from taskorch.api.executors.programs import ProgramExecutor, failure_of
from taskorch.api.executors.remote import pickled
from taskorch.protocols import Attempt, AttemptExecutor

MAKE_CALL = """
import base64, pickle, sys
end = pickle.load(sys.stdin.buffer)()
print(base64.b64encode(pickle.dumps(end)).decode())
"""


class Nice(AttemptExecutor[Any]):
    def __init__(self) -> None:
        self.programs = ProgramExecutor(run_id=uuid4().hex)

    def begin(self, attempt: Attempt) -> Any:
        command = ["nice", sys.executable, "-c", MAKE_CALL]
        program = Program(command, stdin=pickled(attempt.portable()), inherit_env=True)

        def on_end(end: Any) -> None:
            error = end.error or failure_of(
                attempt.task_id, program, end.result, was_asked=end.was_asked
            )
            text = end.result.stdout_tail  # of a program that has made our call
            value = None if error else pickle.loads(b64decode(text))  # noqa: S301
            attempt.end_soon(value, error=error)

        name = attempt.task_id
        return self.programs.start(program, name=name, env={}, on_end=on_end)

    def stop(self, begun: Any, grace: float) -> None:
        begun.terminate(grace)


if __name__ == "__main__":
    with TaskOrchestrator(executors={"nice": Nice()}) as orch:
        print(orch.options(executor="nice").submit(pow, 2, 10).result())  # 1024
