"""
Receipts for others as proof: statements of in-toto, and their signatures.

Decision: waivers-and-audits.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.canonical import canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

STATEMENT: Final = "https://in-toto.io/Statement/v1"
#: The type of a predicate about tests.
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
#: The type of the payload in an envelope of DSSE.
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


def statement_of(
    subject: Sequence[Mapping[str, Any]],
    predicate_type: str,
    predicate: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the in-toto statement (v1) of *predicate* on *subject*."""
    return {
        "_type": STATEMENT,
        "subject": [dict(each) for each in subject],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def _encoded(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that DSSE signs, which have one meaning only."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _key_id(key: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra

    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return sha256(raw).hexdigest()


def signing_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """
    Read the private key in the file at *path*: Ed25519 in PEM, without a password.

    Raises:
        InvalidTaskError: There is none.
        ImportError: The package `cryptography` is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError as error:
        msg = f"signatures need cryptography: pip install cryptography ({error})"
        raise ImportError(msg) from error
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        msg = f"{os.fspath(path)} has no private key that can be read: {error}"
        hint = "openssl genpkey -algorithm ed25519 -out key.pem"
        raise InvalidTaskError(msg, hint=hint) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        msg = f"{os.fspath(path)} has a key of another kind than Ed25519"
        hint = "openssl genpkey -algorithm ed25519 -out key.pem"
        raise InvalidTaskError(msg, hint=hint)
    return key


def sealed(statement: Mapping[str, Any], key: Ed25519PrivateKey | None = None) -> str:
    """
    Return the text of a file with *statement*, signed by *key*.

    With a key it is an envelope of DSSE; without one it is the statement in its
    canonical form, since an envelope without a signature is none.
    """
    payload = canonical(statement)
    if key is None:
        return payload.decode()
    signature = key.sign(_encoded(_PAYLOAD_TYPE, payload))
    envelope = {
        "payload": b64encode(payload).decode(),
        "payloadType": _PAYLOAD_TYPE,
        "signatures": [
            {
                "keyid": _key_id(key.public_key()),
                "sig": b64encode(signature).decode(),
            }
        ],
    }
    return canonical(envelope).decode()


def unsealed(text: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """
    Return the statement in an envelope of DSSE that *key* has signed.

    Raises:
        InvalidTaskError: *text* is no such envelope, or *key* has not signed it.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra

    try:
        envelope = json.loads(text)
        payload = b64decode(envelope["payload"], validate=True)
        kind = envelope["payloadType"]
        signatures = [
            b64decode(s["sig"], validate=True) for s in envelope["signatures"]
        ]
        encoded = _encoded(kind, payload)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        msg = f"it is no envelope with a statement: {error}"
        raise InvalidTaskError(msg) from error
    for signature in signatures:
        try:
            key.verify(signature, encoded)
        except InvalidSignature:
            continue
        if kind == _PAYLOAD_TYPE:
            statement: dict[str, Any] = json.loads(payload)
            return statement
    msg = "this key has not signed it"
    raise InvalidTaskError(msg)
