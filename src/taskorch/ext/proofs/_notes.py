"""
Checkpoints as signed notes, and the keys that sign them.

The form of both is that of C2SP (tlog-checkpoint, signed-note), which people can read
and other programs check.

Decision: proofs-of-a-journal.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import needed
from taskorch.kit.frozen import frozen
from taskorch.kit.visible import is_text, show

_SIGNED: Final = re.compile(r"— (\S+) ([A-Za-z0-9+/=]+)")
_NAME: Final = re.compile(r"[^\s+]+")
_SECRET: Final = "PRIVATE+KEY"  # noqa: S105 - only a label
#: The byte that marks a key as one of Ed25519; and the bytes of a key's number.
_ED25519: Final = b"\x01"
_NUMBER: Final = 4
_KEY: Final = 32
#: The beginning of the first line of a checkpoint.
_ORIGIN: Final = "taskorch/"
_LEAST_LINES: Final = 3


class Signature(NamedTuple):
    """The signature of a checkpoint, with the name of its key."""

    name: str
    #: The number of the key, in hexadecimal.
    number: str
    value: bytes

    @property
    def key(self) -> str:
        """The key, as `name+number`."""
        return f"{self.name}+{self.number}"


@frozen
class Checkpoint:
    """
    The state of a journal at some time, in a few lines, with signatures.

    Attributes:
        log: The id of the journal, which its copies share.
        size: The number of rows in its chain.
        root: The root of the tree over them.
        last: The number of its last event.
        at: When it was made, by its maker's clock, as `2031-04-02T10:00:00Z`.
        left_out: How many of these rows had been deleted: see retention.
        signatures: Its signatures.
    """

    log: str
    size: int
    root: bytes
    last: int
    at: str
    left_out: int
    signatures: tuple[Signature, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed."""
        return (
            f"{_ORIGIN}{self.log}\n{self.size}\n{b64encode(self.root).decode()}\n"
            f"event {self.last}\ntime {self.at}\nleft out {self.left_out}\n"
        )

    def __str__(self) -> str:
        lines = [
            f"— {each.name} "
            f"{b64encode(bytes.fromhex(each.number) + each.value).decode()}\n"
            for each in self.signatures
        ]
        return f"{self.text}\n{''.join(lines)}"


def checkpoint_of(note: str) -> Checkpoint:
    """
    Return the checkpoint in a note.

    Raises:
        InvalidTaskError: There is none.
    """
    text, _, signed = note.partition("\n\n")
    lines = text.split("\n")
    signatures = [_SIGNED.fullmatch(line) for line in signed.splitlines()]
    try:
        origin, size, root, event, time, gone = lines
        checkpoint = Checkpoint(
            origin.removeprefix(_ORIGIN),
            int(size),
            b64decode(root, validate=True),
            int(event.removeprefix("event ")),
            time.removeprefix("time "),
            int(gone.removeprefix("left out ")),
            tuple(_signature(match[1], match[2]) for match in signatures if match),
        )
        datetime.fromisoformat(checkpoint.at)
    except (ValueError, Base64Error):
        checkpoint = None
    if checkpoint is None or None in signatures or checkpoint.text != f"{text}\n":
        msg = f"{show(note[:200])} is no checkpoint of a journal"
        raise InvalidTaskError(msg, hint="taskorch checkpoint makes them")
    return checkpoint


def _signature(name: str, text: str) -> Signature:
    value = b64decode(text, validate=True)
    return Signature(name, value[:_NUMBER].hex(), value[_NUMBER:])


def notes_of(text: str) -> Iterator[str]:
    """Yield the notes that follow each other in *text*."""
    lines: list[str] = []
    is_signed = False
    for line in text.split("\n"):
        if line.startswith("— "):
            is_signed = True
        elif is_signed:
            yield "\n".join(lines)
            lines, is_signed = [], False
        if lines or line:
            lines.append(line)
    if any(lines):
        yield "\n".join(lines)


# -- keys ------------------------------------------------------------------------------


class PublicKey(NamedTuple):
    """A key that checks signatures: `name+number+…`, one line of a file."""

    name: str
    number: str
    value: bytes

    @property
    def key(self) -> str:
        """The key, as `name+number`."""
        return f"{self.name}+{self.number}"

    def __str__(self) -> str:
        return f"{self.key}+{b64encode(_ED25519 + self.value).decode()}"


class PrivateKey(NamedTuple):
    """A key that signs checkpoints, with its public key."""

    public: PublicKey
    sign: Callable[[bytes], bytes]

    def signed(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return *checkpoint* with a signature of this key."""
        value = self.sign(checkpoint.text.encode())
        mine = Signature(self.public.name, self.public.number, value)
        return attrs.evolve(checkpoint, signatures=(*checkpoint.signatures, mine))


def make_key(path: str | os.PathLike[str], name: str | None = None) -> str:
    """
    Make a key that signs checkpoints, in a file that only its user can read.

    Its public key, which checks its signatures, is in another file beside it, whose
    name ends with `.pub`: everybody may have that one.

    Args:
        path: The file, which does not exist yet.
        name: The owner of the key, for people; None: the name of the file without its
            ending.

    Returns:
        The key, as its name and number.

    Raises:
        InvalidTaskError: *name* is not well formed, or the extra `audit` is missing.
        OSError: A file exists, or cannot be written.
    """
    path = Path(path)
    name = path.stem if name is None else name
    untyped: object = name
    if not is_text(untyped) or not _NAME.fullmatch(untyped):
        msg = f"{show(name)} is no name of a key: it has neither blanks nor a +"
        raise InvalidTaskError(msg, hint="as in audit.example.com")
    seed = os.urandom(_KEY)
    private = _private(name, seed)
    number, secret = private.public.number, b64encode(_ED25519 + seed).decode()
    _write(path, f"{_SECRET}+{name}+{number}+{secret}\n", 0o600)
    _write(Path(f"{path}.pub"), f"{private.public}\n", 0o644)
    return private.public.key


def _write(path: Path, text: str, mode: int) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(number, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is open
        file.write(text)
        file.flush()
        os.fsync(number)


def read_private_key(path: str | os.PathLike[str]) -> PrivateKey:
    """
    Return the key in a file that `make_key` made.

    Raises:
        InvalidTaskError: It is none, or others may read it.
        OSError: It cannot be read.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8").strip()
    if path.stat().st_mode & 0o077:
        msg = f"{path} can be read by others, and it is to be secret"
        raise InvalidTaskError(msg, hint=f"chmod 600 {path}; then think of a new key")
    words = text.removeprefix(f"{_SECRET}+").split("+", 2)
    if text.startswith(f"{_SECRET}+") and len(words) == _LEAST_LINES:
        name, number, secret = words
        seed = _key_bytes(secret)
        if seed is not None:
            private = _private(name, seed)
            if private.public.number == number:
                return private
    msg = f"{path} has no key that signs checkpoints"
    raise InvalidTaskError(msg, hint="taskorch checkpoint --new-key FILE makes one")


def read_public_keys(paths: Iterable[str | os.PathLike[str]]) -> dict[str, PublicKey]:
    """
    Return the keys in files, by `name+number`; a file may have several, one a line.

    Raises:
        InvalidTaskError: A line is none.
        OSError: One cannot be read.
    """
    keys = {}
    for path in paths:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.strip():
                key = public_key_of(line.strip())
                keys[key.key] = key
    return keys


def public_key_of(text: str) -> PublicKey:
    """
    Return the key in a line.

    Raises:
        InvalidTaskError: There is none.
    """
    words = text.split("+", 2)
    if len(words) == _LEAST_LINES and words[0] != "PRIVATE":
        name, number, value = words
        public = _key_bytes(value)
        if public is not None and _number(name, public) == number:
            return PublicKey(name, number, public)
    # The line may be a private key by mistake, so it is not shown.
    msg = "a file of public keys has a line that is none: name+number+…"
    raise InvalidTaskError(msg, hint="name the file that ends with .pub")


def _key_bytes(text: str) -> bytes | None:
    try:
        value = b64decode(text, validate=True)
    except (ValueError, Base64Error):
        return None
    if value[:1] != _ED25519 or len(value) != _KEY + 1:
        return None
    return value[1:]


def _number(name: str, public: bytes) -> str:
    text = name.encode() + b"\n" + _ED25519 + public
    return sha256(text).digest()[:_NUMBER].hex()


def _private(name: str, seed: bytes) -> PrivateKey:
    private = _ed25519().Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    return PrivateKey(PublicKey(name, _number(name, public), public), private.sign)


def is_signed(
    checkpoint: Checkpoint, signature: Signature, keys: Mapping[str, PublicKey]
) -> bool:
    """Return whether the key of *signature*, one of *keys*, has signed this text."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - few need it

    public = keys[signature.key].value
    verifier = _ed25519().Ed25519PublicKey.from_public_bytes(public)
    try:
        verifier.verify(signature.value, checkpoint.text.encode())
    except InvalidSignature:
        return False
    return True


def _ed25519() -> Any:
    module = "cryptography.hazmat.primitives.asymmetric.ed25519"
    return needed(module, "a signature of a checkpoint", "audit")
