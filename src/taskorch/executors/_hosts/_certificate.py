"""The certificate by which hosts on other machines know the orchestrator."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from taskorch.errors import InvalidTaskError

#: A certificate as text: between its two lines is nothing else.
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[A-Za-z0-9+/=\s]+-----END \1-----"
)
_COMMAND = (
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 "
    "-subj /CN=taskorch"
)


def certificates_in(file: str) -> str:
    """
    The certificates in a *file*: what hosts get of it, which may have a key as well.

    Raises:
        InvalidTaskError: There is none.
    """
    text = Path(file).read_text(encoding="latin-1")
    parts = [part[0] for part in _CERTIFICATE.finditer(text)]
    if not parts:
        msg = f"there is no certificate in {file}, but for hosts there must be one"
        raise InvalidTaskError(msg, hint="give tls=(certificate, key), as PEM")
    return "\n".join(parts) + "\n"


@contextmanager
def made_certificate(files: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
    """
    The files of a certificate and of its key: *files*, or made for this once.

    Hosts get the certificate with their arguments, and trust no other: see
    `certificates_in`.

    Raises:
        InvalidTaskError: There is no program that makes one.
    """
    if files is not None:
        yield files
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
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if finished.returncode:
            msg = f"openssl could not make a certificate: {finished.stderr.strip()}"
            hint = "give tls=(certificate, key), two files"
            raise InvalidTaskError(msg, hint=hint)
        yield certificate, key
