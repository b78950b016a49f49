import signal
from contextlib import suppress

from taskorch import TaskOrchestrator

with suppress(SystemExit), TaskOrchestrator(journal="night.db") as orch:
    orch.stop_on(signal.SIGTERM, timeout=25)
    orch.submit(print, "loading")
    signal.raise_signal(signal.SIGTERM)  # as systemd does
