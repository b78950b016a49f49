"""An interrupt that comes while a value is looked at is none of the value's errors."""

import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.kit.plain import taken_apart
from taskorch.model import Reference, kind_of, replaced


class Interrupting(dict):
    """It is interrupted whatever is asked of it."""

    def items(self):
        raise KeyboardInterrupt

    def __hash__(self):
        raise KeyboardInterrupt

    __iter__ = __len__ = __float__ = __contains__ = keys = items


class Name(str):
    __slots__ = ()

    def __len__(self):
        raise KeyboardInterrupt

    __hash__ = __eq__ = __iter__ = __getitem__ = isprintable = strip = __len__


def submit(**options):
    with TaskOrchestrator(unknown_capability="wait") as orch:
        orch.submit_task(Task("x"))
        orch.submit_task(Task("x", **options))


@pytest.mark.parametrize(
    "look",
    [
        lambda: taken_apart(Interrupting()),
        lambda: kind_of(Task("x", owner=Interrupting())),
        lambda: submit(metadata=Interrupting()),
        lambda: submit(requires=Interrupting()),
        lambda: submit(timeout=Interrupting()),
        lambda: submit(owner=Name()),
        lambda: submit(priority="high", metadata=Interrupting()),
        lambda: submit(timeout=-1, metadata=Interrupting()),
        lambda: submit(after=Interrupting(), metadata=Interrupting()),
        lambda: replaced(({Reference("t")},), {}, lambda _: Interrupting()),
    ],
)
def test_it_is_told_as_what_it_is(look):
    with pytest.raises(KeyboardInterrupt):
        look()
