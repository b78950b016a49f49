"""
Builds a wheel whose kernel is compiled: TASKORCH_COMPILE=1 pip wheel .

Hatchling calls it for every wheel; without that variable, and for an editable install,
it does nothing, and the wheel is the pure one. It needs a C compiler.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Where nearly all the time that the kernel takes is spent. The others would bring no
#: more than a larger wheel.
MODULES = (
    *("_added", "_admission", "_application", "_attempts", "_deciders"),
    *("_dependencies", "_dispatch", "_ends", "_kernel", "_limits", "_queue", "_quick"),
    *("_rates", "_rows", "_scopes", "_state"),
)


def is_wanted() -> bool:
    """Whether the kernel is to be compiled."""
    return os.environ.get("TASKORCH_COMPILE", "") not in ("", "0")


class Compiled(BuildHookInterface[Any]):
    """Puts the compiled modules beside their sources."""

    def dependencies(self) -> list[str]:
        """What it builds with."""
        if not is_wanted():
            return []
        # The types of what the kernel imports are looked at as well.
        return ["mypy>=2.4,<2.5", "setuptools>=77", *self.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before the wheel is put together."""
        if not is_wanted() or version == "editable":
            return
        from mypyc.build import mypycify
        from setuptools import Distribution
        from setuptools.command.build_ext import build_ext

        root = Path(self.root)
        # What another Python has compiled is none of this wheel's.
        made = root / "build" / "compiled" / str(sys.implementation.cache_tag)
        kernel = Path("src/taskorch/core/kernel")
        files = [str(kernel / f"{name}.py") for name in MODULES]
        files.append("src/taskorch/ext/budgets/_kernel.py")
        os.chdir(root)
        build = build_ext(
            Distribution(
                {
                    "ext_modules": mypycify(
                        # Of the others, some need packages that are not here.
                        [
                            "--ignore-missing-imports",
                            "--follow-imports=silent",
                            *files,
                        ],
                        group_name="taskorch",
                        target_dir=str(made),
                        debug_level="0",
                        opt_level=os.environ.get("TASKORCH_OPT_LEVEL", "3"),
                    )
                }
            )
        )
        build.build_lib = str(made / "lib")
        build.build_temp = str(made / "temp")
        build.ensure_finalized()
        build.run()
        for file in (made / "lib").rglob("*.so"):
            build_data["force_include"][str(file)] = str(file.relative_to(made / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
