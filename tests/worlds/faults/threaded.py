"""A module that starts a thread when it is imported."""

import threading

forever = threading.Event()
threading.Thread(target=forever.wait, name="eager", daemon=True).start()


def workload(path):
    pass
