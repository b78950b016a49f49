"""The certificate by which hosts on other machines know the orchestrator."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskorch.errors import InvalidTaskError

_COMMAND = (
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 "
    "-subj /CN=taskorch"
)


@contextmanager
def made_certificate(given: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
    """
    The files of a certificate and of its key: *given*, or made for this once.

    Hosts get the certificate with their arguments, and trust no other.

    Raises:
        InvalidTaskError: There is no program that makes one.
    """
    if given is not None:
        yield given
        return
    openssl = shutil.which("openssl")
    if openssl is None:
        msg = (
            "hosts on other machines need TLS, and there is no openssl that makes keys"
        )
        hint = "give tls=(certificate, key), two files that some other machine has made"
        raise InvalidTaskError(msg, hint=hint)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = (str(Path(folder, name)) for name in ("cert.pem", "key.pem"))
        command = [openssl, *_COMMAND.split(), "-out", certificate, "-keyout", key]
        made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if made.returncode:
            msg = f"openssl could not make a certificate: {made.stderr.strip()}"
            hint = "give tls=(certificate, key), two files"
            raise InvalidTaskError(msg, hint=hint)
        yield certificate, key
