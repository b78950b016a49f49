"""A file is there as a whole, or as it was before."""

from __future__ import annotations

import pytest

from taskorch.kit.staged import Staged


def test_what_is_aside_is_no_document_and_goes_when_it_is_discarded(tmp_path):
    path = tmp_path / "status.json"
    one, other = Staged(path, "1"), Staged(path, "2")
    assert len([*tmp_path.iterdir()]) == 2
    assert not [*tmp_path.glob("*.json")]
    one.discard()
    other.discard()
    other.discard()
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_written_or_put_in_place_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        Staged(tmp_path / "status.json", "half of a pair: \ud800")
    assert not [*tmp_path.iterdir()]

    folder = tmp_path / "folder"
    (folder / "within").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        Staged(folder, "no folder is replaced").commit()
    assert [*tmp_path.iterdir()] == [folder]
