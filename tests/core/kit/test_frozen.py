"""Classes whose methods are written later are those that attrs would have made at once."""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
import subprocess
import sys
import threading
from typing import ClassVar, Generic, TypeVar

import attrs
import pytest

from taskorch import events
from taskorch.kit import frozen

T = TypeVar("T")


def family(frozen):
    """The same few classes, made by either."""

    @frozen
    class Base:
        number: int

        kind: ClassVar[str] = "a base"

        @property
        def twice(self):
            return 2 * self.number

    @frozen
    class Derived(Base):
        """One with all that ours use."""

        text: str = attrs.field(validator=attrs.validators.instance_of(str))
        items: tuple[int, ...] = attrs.field(default=(), converter=tuple)
        loose: object = attrs.field(default=None, eq=False, repr=False)
        kind: ClassVar[str] = "derived"

        @items.validator
        def _none_is_negative(self, _attribute, value):
            if any(item < 0 for item in value):
                raise ValueError("negative")

    @frozen(eq=False)
    class ByIdentity(Base):
        number: int = 3

    @frozen(repr=False)
    class Short:
        first: int = 1

        def __repr__(self):
            return f"<{self.first}>"

    @frozen(kw_only=True, weakref_slot=False)
    class Named(Generic[T]):
        value: int

        def __attrs_post_init__(self):
            if self.value < 0:
                raise ValueError("negative")

    @frozen(init=False)
    class Own:
        first: int

        def __init__(self, first):
            self.__attrs_init__(first + 1)

    return Base, Derived, ByIdentity, Short, Named, Own


OURS = family(frozen.frozen)
THEIRS = family(attrs.frozen)
ARGUMENTS = ((1,), (1, "a", [2]), (), (), {"value": 1}, (1,))


def make(cls, arguments):
    return cls(**arguments) if isinstance(arguments, dict) else cls(*arguments)


def is_written(cls):
    return not any(isinstance(value, frozen._Unwritten) for value in vars(cls).values())


def said(cls):
    """What attrs knows of the fields, but for functions, which each has of its own."""
    return [
        (field.name, field.default, field.type, field.eq, field.repr, field.inherited)
        for field in attrs.fields(cls)
    ]


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_the_class_is_what_attrs_would_have_made(number):
    ours, theirs = OURS[number], THEIRS[number]

    mine, other = make(ours, ARGUMENTS[number]), make(theirs, ARGUMENTS[number])

    assert is_written(ours)
    # A field that a subclass says again is found in its base, where attrs repeats it.
    fields = {field.name for field in attrs.fields(ours)}
    assert set(vars(ours)) | fields == set(vars(theirs)) | fields
    assert ours.__slots__ == theirs.__slots__
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert said(ours) == said(theirs)
    assert attrs.asdict(mine) == attrs.asdict(other)
    assert (repr(mine) == repr(other)) or " at 0x" in object.__repr__(mine)
    assert sys.getsizeof(mine) == sys.getsizeof(other)
    assert copy.copy(mine) is not mine
    assert (copy.copy(mine) == mine) is (copy.copy(other) == other)
    assert (hash(copy.copy(mine)) == hash(mine)) is (
        hash(copy.copy(other)) == hash(other)
    )


def bare(cls):
    return object.__new__(cls)


LOOKS = {
    "making": lambda cls: cls(1, "a"),
    "its __init__": lambda cls: cls.__init__,
    "its __hash__": lambda cls: cls.__hash__,
    "a pattern": lambda cls: cls.__match_args__,
    "attrs.has": attrs.has,
    "attrs.fields": attrs.fields,
    "signature": inspect.signature,
    "comparing": lambda cls: bare(cls) == bare(cls),
    "printing": lambda cls: repr(bare(cls)),
    "hashing": lambda cls: hash(bare(cls)),
    "setting": lambda cls: setattr(bare(cls), "text", 1),
    "deleting": lambda cls: delattr(bare(cls), "text"),
    "unpickling": lambda cls: bare(cls).__setstate__({"number": 1, "text": "a"}),
    "a subclass": lambda cls: type("Sub", (cls,), {})(1, "a"),
    "what it has not": lambda cls: getattr(cls, "__attrs_init__", None),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_whatever_is_looked_at_first_writes_it(look):
    derived = family(frozen.frozen)[1]
    assert not is_written(derived)

    # A bare object has no fields, and a frozen one refuses to be changed.
    with contextlib.suppress(AttributeError):
        look(derived)

    assert is_written(derived)
    assert derived(1, "a", [2]) == derived(1, "a", (2,), loose=7)
    assert hash(derived(1, "a")) == hash(derived(1, "a", loose=7))
    assert derived(1, "a") != derived(2, "a")
    assert repr(derived(1, "a")).endswith("Derived(number=1, text='a', items=())")
    assert derived(4, "a").twice == 8
    with pytest.raises(ValueError, match="negative"):
        derived(1, "a", [-1])
    with pytest.raises(TypeError, match="'text' must be"):
        derived(1, 2)


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_the_first_look_at_what_it_takes_is_answered_as_any_other(number):
    """`inspect` takes what stands in the class, and asks that for a method."""
    ours = family(frozen.frozen)[number]

    assert str(inspect.signature(ours)) == str(inspect.signature(THEIRS[number]))


def test_those_of_another_process_are_read_by_one_that_has_used_none():
    written = pickle.dumps(events.TaskDue(1, 2, "a"))
    fresh = """if True:
        import pickle, sys
        print(pickle.load(sys.stdin.buffer))
    """
    done = subprocess.run(
        [sys.executable, "-c", fresh], input=written, capture_output=True, check=True
    )

    assert done.stdout.decode().strip() == "TaskDue(seq=1, at_ns=2, task_id='a')"


def test_threads_that_use_it_first_at_the_same_moment_all_get_theirs():
    for _ in range(20):
        derived = family(frozen.frozen)[1]
        barrier = threading.Barrier(8)
        made = []

        def first(derived=derived, barrier=barrier, made=made):
            barrier.wait()
            made.append(derived(1, "a", [2]))

        threads = [threading.Thread(target=first) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(made) == 8
        assert len(set(made)) == 1


@pytest.mark.parametrize("written", [False, True])
def test_a_draft_becomes_what_the_class_would_have_made(written):
    derived = family(frozen.frozen)[1]
    if written:
        derived(1, "a")
    draft = frozen.draft_of(derived)()
    draft.number, draft.text, draft.items, draft.loose = 1, "a", (2,), None
    draft.__class__ = derived

    assert type(draft) is derived
    assert draft == derived(1, "a", [2])
    assert hash(draft) == hash(derived(1, "a", [2]))
    assert copy.copy(draft) == draft
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        draft.text = "b"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del draft.text
