"""Signals where two meet: with another signal, a fork, a stop or a second orchestrator."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually

from taskorch import (
    TaskOrchestrator,
)
from taskorch.errors import JournalError, UsageError
from taskorch.kit import interrupts


@pytest.fixture
def default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_handler")
def test_one_that_could_not_be_opened_leaves_no_handler(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        TaskOrchestrator(journal=tmp_path).start()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default_handler")
def test_one_stops_at_the_signal_at_which_another_has_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One after the other, each for the whole of its incarnation."""
    for _ in range(2):
        with pytest.raises(SystemExit), TaskOrchestrator() as orch:  # noqa: PT012
            orch.stop_on(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        assert "SIGUSR1: what can still proceed has" in caplog.text
        assert "; nothing was left" in caplog.text
        caplog.clear()


@pytest.mark.usefixtures("default_handler")
def test_the_handler_stays_while_somebody_lives_or_is_to_stop_at_it() -> None:
    """Whichever of the two has ended first."""
    ours = interrupts._on_interrupt
    with TaskOrchestrator():
        with TaskOrchestrator() as other:
            other.stop_on(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is ours
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    stops = TaskOrchestrator()
    stops.stop_on(signal.SIGINT)
    with TaskOrchestrator():
        pass
    assert signal.getsignal(signal.SIGINT) is ours
    stops.stop()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_only_the_main_thread_may_say_at_which_signals_one_stops() -> None:
    """It is told so by an error, and not by Python's."""
    orch = TaskOrchestrator()
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(UsageError, match="is for the main"),
    ):
        pool.submit(orch.stop_on, signal.SIGUSR1).result(PATIENCE)


@pytest.mark.usefixtures("default_handler")
def test_a_block_of_a_coroutine_drains_at_a_signal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hold = Hold()
    handles: list[Any] = []

    async def main() -> None:
        async with TaskOrchestrator() as orch:
            orch.stop_on(signal.SIGUSR1)
            handles.append(orch.submit(hold, 7))
            await asyncio.to_thread(hold.wait)
            signal.raise_signal(signal.SIGUSR1)
            threading.Timer(0.05, hold.release).start()
            await asyncio.sleep(PATIENCE)

    with pytest.raises(SystemExit) as caught:
        asyncio.run(main())
    assert caught.value.code == 128 + signal.SIGUSR1
    assert handles[0].result() == 7
    assert "SIGUSR1: what can still proceed has" in caplog.text
    assert "; nothing was left" in caplog.text


@pytest.mark.usefixtures("default_handler")
def test_a_signal_shortens_the_drain_of_a_coroutines_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Which has as long as the signal allows; what does not end is cancelled."""
    handles: list[Any] = []

    async def main() -> None:
        async with TaskOrchestrator() as orch:
            orch.stop_on(signal.SIGUSR1, timeout=0.4)
            handles.append(orch.submit(asyncio.sleep, 10 * PATIENCE))
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, signal.raise_signal, signal.SIGUSR1)

    begin = monotonic()
    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert monotonic() - begin < 2 * PATIENCE
    assert handles[0].cancelled()
    assert "SIGUSR1: what can still proceed has" in caplog.text
    assert "; 1 task was left" in caplog.text


@pytest.mark.usefixtures("default_handler")
def test_ctrl_c_in_the_drain_of_a_block_cancels_what_runs() -> None:
    orch = TaskOrchestrator()

    def interrupt() -> None:
        eventually(lambda: orch._lifecycle._is_stopping)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), orch:  # noqa: PT012
        handle = orch.submit(asyncio.sleep, 10 * PATIENCE)
        orch.submit(interrupt)
    assert handle.cancelled()
    assert orch._rt.closed


@pytest.mark.usefixtures("default_handler")
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_in_the_drain_of_a_block_lets_it_drain_and_another_ends_it(
    times: int, caplog: pytest.LogCaptureFixture
) -> None:
    orch = TaskOrchestrator()
    hold = Hold()

    def interrupt() -> None:
        eventually(lambda: orch._lifecycle._is_stopping)
        for _ in range(times):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            eventually(lambda: "what can still proceed has" in caplog.text)
        if times == 1:
            hold.release()

    # No task: that could be one more that was left.
    thread = threading.Thread(target=interrupt)
    with pytest.raises(SystemExit) as caught, orch:  # noqa: PT012
        orch.stop_on(signal.SIGUSR1, timeout=10 * PATIENCE)
        handle = orch.submit(asyncio.to_thread, hold, 7)
        thread.start()
    thread.join()
    assert caught.value.code == 128 + signal.SIGUSR1
    if times == 1:
        assert handle.result() == 7
        assert "; nothing was left" in caplog.text
    else:
        assert handle.cancelled()
        assert "; 1 task was left" in caplog.text
    hold.release()


@pytest.mark.usefixtures("default_handler")
def test_who_cancels_a_coroutine_in_its_last_wait_ends_the_drain() -> None:
    orch = TaskOrchestrator()
    handles: list[Any] = []

    async def main() -> None:
        async with orch:
            handles.append(orch.submit(asyncio.sleep, 10 * PATIENCE))

    async def cancel() -> None:
        task = asyncio.ensure_future(main())
        while not orch._lifecycle._is_stopping:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
    assert handles[0].cancelled()
