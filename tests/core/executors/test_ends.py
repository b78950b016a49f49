"""What executors say of ends: how long one is waited for, and what one means."""

import errno
import gc
import warnings
from types import ModuleType

import pytest

from taskorch.kit.ends import is_no_room, strip, unawaited, until_kill


@pytest.mark.parametrize(
    ("grace", "until"), [(0.0, 0.0), (2.0, 1.5), (6.0, 4.5), (100.0, 98.5)]
)
def test_of_a_grace_some_is_left_for_what_was_killed(
    grace: float, until: float
) -> None:
    """A quarter of it, but no more than what is killed may need to be read."""
    assert until_kill(grace) == until


@pytest.mark.parametrize(
    ("error", "says_so"),
    [
        (OSError(errno.EAGAIN, "no process"), True),
        (OSError(errno.EMFILE, "no descriptor"), True),
        (OSError(errno.ENFILE, "no descriptor at all"), True),
        (OSError(errno.ENOMEM, "no memory"), True),
        (OSError(errno.ENOENT, "no file"), False),
        (OSError("no number"), False),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("cannot schedule new futures after shutdown"), False),
        (ValueError("can't start new thread"), False),
        (ValueError("other"), False),
    ],
)
def test_which_errors_say_that_there_is_no_room(
    error: Exception, says_so: bool
) -> None:
    """By them it is decided whether an attempt has failed, or is made later."""
    assert is_no_room(error) is says_so


def test_a_coroutine_that_nobody_awaits_is_closed_and_named() -> None:
    """Python warns of one that was not."""

    async def forgotten() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coroutine = forgotten()
        error = unawaited(coroutine, "t")  # type: ignore[arg-type]
        assert coroutine.cr_frame is None
        del coroutine
        gc.collect()
    assert type(error) is TypeError
    assert "task t returned a coroutine of" in str(error)
    assert "forgotten()" in str(error)


def raised_through(*names: str) -> BaseException:
    """An error that a function of the last of these modules raises, through all."""

    def call() -> None:
        raise ValueError("ours")

    for name in reversed(names):
        module = ModuleType(name)
        module.__dict__["inner"] = call
        exec("def call(): inner()", module.__dict__)
        call = module.__dict__["call"]
    with pytest.raises(ValueError, match="ours") as got:
        call()
    trace = got.value.__traceback__
    assert trace is not None
    # Without the frame of this function.
    return got.value.with_traceback(trace.tb_next)


def modules_of(error: BaseException) -> list[str]:
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(trace.tb_frame.f_globals["__name__"])
        trace = trace.tb_next
    return found


def test_a_traceback_begins_in_the_code_of_the_user() -> None:
    """What is ours after that is what the user has called."""
    ours, theirs = "taskorch.core.engine._passage", "theirs"
    error = raised_through(ours, "taskorch.core.executors.remote", theirs, ours, theirs)
    strip(error)
    assert modules_of(error) == [theirs, ours, theirs, __name__]


def test_of_an_error_of_ours_no_frame_is_left() -> None:
    error = raised_through("taskorch.core.engine._passage")
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_next is not None
    error.__traceback__.tb_next = None
    strip(error)
    assert error.__traceback__ is None
    strip(error)
    assert error.__traceback__ is None
