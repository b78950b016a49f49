"""
The GPUs of this machine, as the library of NVIDIA's driver names them.

A GPU has the name that stays the same while others come and go, its UUID; each part of
one that is divided (MIG) likewise. If `CUDA_VISIBLE_DEVICES` says which are ours, only
those are meant, by the names that stand there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

#: The variable that says which GPUs a process may use.
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
#: The variable that says how CUDA counts them, and the value that counts as NVML does.
_ORDER: Final = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
_MODULE: Final = "pynvml"
_LIBRARY: Final = "libnvidia-ml.so.1"
_NOT_INSTALLED: Final = "nvidia-ml-py is not installed: pip install 'taskorch[gpu]'"


class Gpus(NamedTuple):
    """
    The GPUs that were found.

    Attributes:
        names: Their names, in the order of the driver.
        models: Of each, what it is.
        why: Why there are none, or not all, in sentences; "": nothing went wrong.
    """

    names: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    why: str = ""


def gpus(environment: Mapping[str, str] = os.environ) -> Gpus:
    """
    The GPUs of this machine that are ours to use; raises nothing.

    Args:
        environment: The variables that say which are ours.
    """
    try:
        import pynvml as nvml  # noqa: PLC0415 - optional, and a tenth of a second
    except ModuleNotFoundError as error:
        return Gpus(why=_NOT_INSTALLED if error.name == _MODULE else _text(error))
    except Exception as error:  # noqa: BLE001 - whatever an import does
        return Gpus(why=_text(error))
    try:
        nvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - it is of its own kinds
        return Gpus(why=f"NVIDIA's driver does not answer: {_text(error)}")
    try:
        return _ours(*_listed(nvml), environment)
    except Exception as error:  # noqa: BLE001 - see above
        return Gpus(why=f"NVIDIA's driver does not say which there are: {_text(error)}")
    finally:
        with suppress(Exception):
            nvml.nvmlShutdown()


def may_have_gpus() -> bool:
    """Whether a look at them may be worth its time: library and driver are there."""
    if find_spec(_MODULE) is None:
        return False
    import ctypes  # noqa: PLC0415 - only where that is installed

    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


#: A GPU: its name (None: it cannot be used), the names of its parts, and what it is.
_Device = tuple[str | None, tuple[str, ...], str]


def _listed(nvml: Any) -> tuple[list[_Device], list[str]]:
    """All GPUs in the order of the driver, and what is wrong with some."""
    devices: list[_Device] = []
    wrong: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = _str(nvml.nvmlDeviceGetUUID(handle))
        except Exception as error:  # noqa: BLE001 - one that is lost, for example
            wrong.append(f"GPU {index} cannot be used: {_text(error)}")
            devices.append((None, (), ""))
            continue
        model = "a GPU"
        with suppress(Exception):
            model = _str(nvml.nvmlDeviceGetName(handle))
            total = nvml.nvmlDeviceGetMemoryInfo(handle).total
            model += f" ({total / 2**20:,.0f} MiB)"
        devices.append((name, _parts(nvml, handle), model))
    return devices, wrong


def _parts(nvml: Any, handle: Any) -> tuple[str, ...]:
    """The names of the parts of a GPU that is divided."""
    names: list[str] = []
    # Most cannot be divided, and say so by an error.
    with suppress(Exception):
        if nvml.nvmlDeviceGetMigMode(handle)[0]:
            for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                # Not every place has one.
                with suppress(Exception):
                    part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                    names.append(_str(nvml.nvmlDeviceGetUUID(part)))
    return tuple(names)


def _ours(
    devices: list[_Device], wrong: list[str], environment: Mapping[str, str]
) -> Gpus:
    """Those of *devices* that the *environment* lets us use."""
    models: dict[str, str] = {}
    for name, parts, model in devices:
        if name is not None:
            models.update(dict.fromkeys(parts or (name,), model))
    if not devices:
        wrong = ["NVIDIA's driver knows of no GPU"]
    visible = environment.get(VISIBLE)
    if visible is None or not devices:
        return Gpus(tuple(models), tuple(models.values()), "; ".join(wrong))
    ours: dict[str, str] = {}
    for entry in map(str.strip, visible.split(",")):
        named = _meant(entry, devices, models, environment.get(_ORDER[0]) == _ORDER[1])
        if named is None:
            # As CUDA does: what stands behind it does not count.
            break
        ours.update(named)
    if not ours:
        wrong = [*wrong, f"{VISIBLE}={visible!r} lets us use none"]
    return Gpus(tuple(ours), tuple(ours.values()), "; ".join(wrong))


def _meant(
    entry: str, devices: list[_Device], models: dict[str, str], counts_alike: bool
) -> dict[str, str] | None:
    """What an *entry* of the variable names, each with its model; None: nothing."""
    if entry.isdecimal() and int(entry) < len(devices):
        name, parts, model = devices[int(entry)]
        if not counts_alike:
            # How CUDA counts was not said. A program of ours counts as we do, though.
            return {entry: model}
        return {} if name is None else dict.fromkeys(parts or (name,), model)
    matches = [name for name in models if entry and name.startswith(entry)]
    return {matches[0]: models[matches[0]]} if len(matches) == 1 else None


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
