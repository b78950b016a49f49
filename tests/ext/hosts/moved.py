"""How much has gone over the connections of this process."""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path

import pytest


def bytes_moved() -> int:
    """Bytes sent and received over all TCP connections that this process has now."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells how much went over a connection")
    total = 0
    for path in Path("/proc/self/fd").iterdir():
        try:
            there = socket.socket(fileno=os.dup(int(path.name)))
        except OSError:
            continue
        with there:
            try:
                told = there.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                total += sum(struct.unpack_from("QQ", told, 120))
            except OSError:
                continue
    return total
