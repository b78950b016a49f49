from pathlib import Path

from taskorch.ext.task_files import Workspace

phase = Path("tasks/01-analysis")
phase.mkdir(parents=True, exist_ok=True)
(phase / "01-test.md").write_text("""\
---
outputs: [report.md]
timeout: 2h
---
Run the tests, and write down what fails.
""")
(phase / "02-sort.md").write_text("""\
---
dependencies: [01-analysis/01-test]
outputs: [report.md]
---
Sort the failures by cause.
""")
with Workspace(".", agent="cp {task_file} {outputs}/report.md") as workspace:
    print(workspace.main_loop().completed)
