"""The default of a kind of policy that keeps tasks from starting."""

from taskorch.kit.extension import Kind, StartRule
from taskorch.policies._kinds import AnyStart


def test_it_lets_every_task_start():
    rule = AnyStart()
    assert isinstance(rule, StartRule)
    kind = Kind("train", None, (), {})
    assert rule.need(kind) == 0
    assert rule.short(1, 100) is None
