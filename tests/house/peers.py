"""A way to a peer that lives, and is silent, slow, or says half of what it says."""

import shutil
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

#: Seconds between two bytes of a peer that is slow.
_DRIP = 0.2


class Peer:
    """
    A proxy that can be told how it carries what the peer says.

    - `"well"`: at once.
    - `"silent"`: connections stay open, and nothing more comes, to either side.
    - `"deaf"`: as silent, only for the connections that there are now.
    - `"slow"`: the peer's answers come byte by byte.
    - `"half"`: a few bytes more of the next answer, then nothing.
    - `"closed"`: each connection is closed, and so is each new one.

    Args:
        connect: A function that gives a new connection to the peer.
        folder: With a name, the proxy listens on a Unix socket of this name in a folder
            of its own; else on a port of the loopback.
    """

    def __init__(self, connect, name=None):
        self._connect = connect
        self.folder = None
        if name is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            self.port = self._listener.getsockname()[1]
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="taskorch-peer-"))
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.folder / name))
            self._listener.listen(128)
        self._mutex = threading.Lock()
        #: Pairs of sockets, each with how it carries; its first element tells that.
        self._ways = []
        self._how = "well"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.become("closed")
        # Who waits in accept does not hear of a close.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self.folder is not None:
            shutil.rmtree(self.folder)

    def become(self, how):
        """Carry what is said as *how* says, from now on."""
        with self._mutex:
            self._how = "well" if how == "deaf" else how
            for way in self._ways:
                # A connection that has lost bytes never becomes whole again.
                if way["how"] not in ("silent", "half"):
                    way["how"] = "silent" if how == "deaf" else how
            if how == "closed":
                for way in self._ways:
                    _end(way["pair"])
                self._ways.clear()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client):
        with self._mutex:
            if self._how == "closed":
                client.close()
                return
            way = {"how": self._how, "pair": [client]}
            self._ways.append(way)
        if way["how"] == "silent":
            return
        try:
            peer = self._connect()
        except OSError:
            client.close()
            return
        way["pair"].append(peer)
        threading.Thread(
            target=self._carry, args=(way, client, peer, False), daemon=True
        ).start()
        self._carry(way, peer, client, True)

    def _carry(self, way, source, target, is_answer):
        with suppress(OSError):
            while data := source.recv(65_536):
                how = way["how"]
                if how == "silent":
                    # It is read, and goes nowhere.
                    continue
                if is_answer and how == "half":
                    target.sendall(data[: len(data) // 2])
                    way["how"] = "silent"
                elif is_answer and how == "slow":
                    for byte in data:
                        if way["how"] != "slow":
                            break
                        target.sendall(bytes([byte]))
                        time.sleep(_DRIP)
                else:
                    target.sendall(data)
        if way["how"] not in ("silent", "half"):
            _end(way["pair"])


def _end(pair):
    for each in pair:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
