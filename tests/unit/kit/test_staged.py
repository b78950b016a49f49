"""A file is there as a whole, or as it was before."""

from __future__ import annotations

import os
import stat

import pytest

from taskorch.kit.staged import Staged


def test_it_is_seen_as_it_was_until_it_is_put_in_place_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "status.json"
    Staged(path, "first").commit()
    assert path.read_text() == "first"

    text = "ä" * 300_000
    staged = Staged(path, text)
    assert path.read_text() == "first"
    staged.commit()
    assert path.read_text() == text
    assert [*path.parent.iterdir()] == [path]


def test_what_is_aside_is_no_document_and_goes_when_it_is_discarded(tmp_path):
    path = tmp_path / "status.json"
    one, other = Staged(path, "1"), Staged(path, "2")
    assert len([*tmp_path.iterdir()]) == 2
    assert not [*tmp_path.glob("*.json")]
    one.discard()
    other.discard()
    other.discard()
    assert not [*tmp_path.iterdir()]


def test_nobody_else_reads_what_is_to_have_narrow_rights(tmp_path):
    path = tmp_path / "token"
    before = os.umask(0)
    try:
        Staged(path, "secret", 0o600).commit()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_cannot_be_written_or_put_in_place_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        Staged(tmp_path / "status.json", "half of a pair: \ud800")
    assert not [*tmp_path.iterdir()]

    folder = tmp_path / "folder"
    (folder / "within").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        Staged(folder, "no folder is replaced").commit()
    assert [*tmp_path.iterdir()] == [folder]
