"""
Compiled functions as methods: Python binds only its own to an object by itself.

Decision: 0062.
"""

from __future__ import annotations

from types import BuiltinFunctionType
from typing import Any


def bind(cls: type) -> None:
    """Make methods of the compiled functions with public names in *cls*."""
    for name, found in list(vars(cls).items()):
        if isinstance(found, BuiltinFunctionType) and not name.startswith("_"):
            setattr(cls, name, _method(found))


def _method(function: Any) -> Any:
    """*function* as a method: CPython's own class for that has no name in Python."""
    # Only what is compiled needs it.
    import ctypes  # noqa: PLC0415

    make = ctypes.pythonapi.PyInstanceMethod_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.py_object]
    return make(function)
