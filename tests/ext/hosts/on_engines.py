"""What is called in workers of engines: a module that is quickly imported."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import taskorch


def spin(file: str) -> None:
    """A loop in C, which nothing but the end of its process ends."""
    Path(file).write_text(f"{os.getpid()} {os.getppid()}")
    pow(3, 1 << 300_000, 1 << 3_000_000)


def note(folder: str) -> tuple[int, int]:
    """Note that an attempt has begun; wait until there is a file "go"."""
    Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").write_text(str(os.getppid()))
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    return os.getpid(), os.getppid()


def say(number: int) -> int:
    """Tell of its progress, and return what it has told."""
    taskorch.current_context().progress(number)
    return number


def measure(data: bytes) -> tuple[int, int]:
    return len(data), os.getppid()


class Odd:
    """Can be pickled, and not made again."""

    def __init__(self) -> None:
        self.much = bytes(2_000_000)

    def __setstate__(self, state: object) -> None:
        raise ValueError("it was never so")


def give_back(size: int) -> object:
    """So many bytes; for -1, what cannot be pickled, for -2, what cannot be read."""
    if size == -1:
        return threading.Lock(), bytes(2_000_000)
    return Odd() if size == -2 else bytes(size)


def set_version(version: str) -> None:
    taskorch.__version__ = version
