"""The certificate by which hosts on other machines know the orchestrator."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Final

from taskorch.errors import InvalidTaskError

#: A certificate as text, without anything else between its two lines.
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[A-Za-z0-9+/=\s]+-----END \1-----"
)
_COMMAND: Final = (
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 "
    "-subj /CN=taskorch"
)
_LASTS: Final = timedelta(days=365)


def certificates_in(file: str) -> str:
    """
    Return the certificates in a *file*, for hosts; the file may have a key as well.

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
    Yield the files of a certificate and its key: *files*, or new ones.

    Hosts get the certificate with their arguments, and trust no other: see
    `certificates_in`. It is made by `cryptography`, or by `openssl` where that library
    is not installed.

    Raises:
        InvalidTaskError: Neither is there, or they make none.
    """
    if files is not None:
        yield files
        return
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
        try:
            _make_by_library(certificate, key)
        except ImportError:
            _make_by_program(certificate, key)
        yield str(certificate), str(key)


def _make_by_library(certificate: Path, key: Path) -> None:
    x509 = import_module("cryptography.x509")
    form = import_module("cryptography.hazmat.primitives.serialization")
    hashes = import_module("cryptography.hazmat.primitives.hashes")
    curves = import_module("cryptography.hazmat.primitives.asymmetric.ec")
    private = curves.generate_private_key(curves.SECP256R1())
    common_name = x509.NameAttribute(x509.NameOID.COMMON_NAME, "taskorch")
    name = x509.Name([common_name])
    # TLS goes by the clocks of machines.
    now = datetime.now(UTC)  # noqa: TID251
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        # A clock there may be behind ours.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    text = builder.sign(private, hashes.SHA256()).public_bytes(form.Encoding.PEM)
    secret = private.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    certificate.write_bytes(text)
    key.write_bytes(secret)


def _make_by_program(certificate: Path, key: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        msg = (
            "hosts on other machines need TLS, and there is nothing that makes keys: "
            "neither cryptography nor openssl"
        )
        hint = "pip install cryptography; or give tls=(certificate, key), two files"
        raise InvalidTaskError(msg, hint=hint)
    command = [openssl, *_COMMAND.split(), "-out", str(certificate)]
    command += ["-keyout", str(key)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if finished.returncode:
        msg = f"openssl could not make a certificate: {finished.stderr.strip()}"
        hint = "pip install cryptography; or give tls=(certificate, key), two files"
        raise InvalidTaskError(msg, hint=hint)
