"""The generated pages of the docs are those of the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "reference_pages", Path(__file__).parent / "_reference.py"
)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.mark.parametrize("path", _MODULE.PAGES, ids=lambda path: path.name)
def test_a_generated_page_is_up_to_date(path):
    """A generated page says what the code says (python tests/house/packaging/_reference.py)."""
    assert path.read_text(encoding="utf-8") == _MODULE.PAGES[path]()
