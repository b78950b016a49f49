import sys

from taskorch import ProgramFailedError, Task, TaskOrchestrator

with TaskOrchestrator() as orch:
    check = orch.submit_task(Task.program([sys.executable, "-m", "ast", __file__]))
    print(check.result().exit_code, check.result().log_path)
    bad = orch.submit_task(Task.program([sys.executable, "missing.py"]))
    try:
        bad.result()
    except ProgramFailedError as error:
        print(error.result.stderr_tail)
