"""What the kernel's verbs do when they are called: seen, and not said."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from taskorch.kernel import Kernel

#: The verbs of the kernel, in the order of its door.
VERBS: Final = MappingProxyType(
    {name: verb for name, verb in vars(Kernel).items() if not name.startswith("_")}
)
