from pathlib import Path

from taskorch.ext import suites

Path("test_cart.py").write_text("def test_sum():\n    assert sum([20, 70]) == 90\n")
Path("test_pay.py").write_text("def test_pay():\n    assert min(90, 100) == 90\n")
Path("suite.yaml").write_text("""\
orchestrator:
  name: shop
  task_definitions:
    unit_tests:
      - id: cart
        template: pytest
        arguments: [test_cart.py]
        success_criteria: {pass_rate: 0.95}
    integration_tests:
      - {id: pay, template: pytest, arguments: [test_pay.py], dependencies: [cart]}
resource_allocation:
  unit_tests: {cpu_cores: 1, memory_mb: 512, timeout_seconds: 600, max_parallel: 3}
failure_handling: {max_retries: 2, retry_delay_seconds: 30}
templates:
  pytest: {pytest: [-q]}
""")
report = suites.run(suites.load("suite.yaml"), "out", tell=print)
for task in report.tasks:
    print(task.id, task.status)
