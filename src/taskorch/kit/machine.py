"""
Resources of this machine within affinity and cgroups, its labels, and its GPUs.

Unknown values are left out, and a request for one is told so. GPUs are those that the
library of NVIDIA's driver lists.

The name of a GPU is its UUID, which stays the same while others come and go; so is that
of each part of a divided one (MIG). If `CUDA_VISIBLE_DEVICES` restricts the process,
only those count, by the names in it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

#: The variable with the GPUs that a process may use.
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
#: The variable with CUDA's way of counting GPUs, and the value for the same way as
#: NVML.
_ORDER: Final = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
_MODULE: Final = "pynvml"
_LIBRARY: Final = "libnvidia-ml.so.1"
_NOT_INSTALLED: Final = "nvidia-ml-py is not installed: pip install 'taskorch[gpu]'"


_CGROUP: Final = "/sys/fs/cgroup"
#: The file with the cgroups of this process.
_GROUPS: Final = "/proc/self/cgroup"
#: The number above which a limit of cgroup v1 means "no limit".
_NO_LIMIT: Final = 1 << 60
_MEGA: Final = 1 << 20
#: The least cores that a quota amounts to.
_LEAST: Final = 0.01
#: The folder of network interfaces, each a folder.
_NETWORK: Final = "/sys/class/net"
_UNKNOWN_SPEED: Final = (1 << 31) - 1
#: Other words for a platform, or a kind of processor.
_OTHER_WORDS: Final = {"win32": "windows", "amd64": "x86_64", "aarch64": "arm64"}


class Gpus(NamedTuple):
    """
    The GPUs that were found.

    Attributes:
        names: Their names, in the order of the driver.
        models: The model of each.
        why: Why some or all are missing, in sentences; "" if nothing went wrong.
    """

    names: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    why: str = ""


def gpus(environment: Mapping[str, str] = os.environ) -> Gpus:
    """
    Return the GPUs of this machine that this process may use; never raise.

    Args:
        environment: The variables that restrict them.
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


@cache
def may_have_gpus() -> bool:
    """
    Return whether a search for GPUs is worth its time: library and driver exist.

    The answer is kept for the process, since a search for a module waits for import
    locks.
    """
    if find_spec(_MODULE) is None:
        return False
    import ctypes  # noqa: PLC0415 - only where that is installed

    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


#: A GPU: its name (None if it cannot be used), the names of its parts, and its model.
_Device = tuple[str | None, tuple[str, ...], str]


def _listed(nvml: Any) -> tuple[list[_Device], list[str]]:
    """Return all GPUs in the order of the driver, and faults of some."""
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
    """Return the names of the parts of a GPU that is divided."""
    names: list[str] = []
    # Most GPUs cannot be divided, and raise an error here.
    with suppress(Exception):
        if nvml.nvmlDeviceGetMigMode(handle)[0]:
            for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                # Not every index has a part.
                with suppress(Exception):
                    part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                    names.append(_str(nvml.nvmlDeviceGetUUID(part)))
    return tuple(names)


def _ours(
    devices: list[_Device], wrong: list[str], environment: Mapping[str, str]
) -> Gpus:
    """Return those of *devices* that the *environment* lets us use."""
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
            # CUDA does the same: later entries do not count.
            break
        ours.update(named)
    if not ours:
        wrong = [*wrong, f"{VISIBLE}={visible!r} lets us use none"]
    return Gpus(tuple(ours), tuple(ours.values()), "; ".join(wrong))


def _meant(
    entry: str, devices: list[_Device], models: dict[str, str], counts_alike: bool
) -> dict[str, str] | None:
    """Return the GPUs that an *entry* of the variable names, each with its model."""
    if entry.isdecimal() and int(entry) < len(devices):
        name, parts, model = devices[int(entry)]
        if not counts_alike:
            # CUDA's way of counting is unknown, but our own programs count as we do.
            return {entry: model}
        return {} if name is None else dict.fromkeys(parts or (name,), model)
    matches = [name for name in models if entry and name.startswith(entry)]
    return {matches[0]: models[matches[0]]} if len(matches) == 1 else None


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


# -- amounts and labels ----------------------------------------------------------------


def machine_amounts() -> dict[str, float]:
    """
    Return the known amounts of this machine of all resources in `MEASURED`.

    `cpu` in cores; `memory_mb`, and the free `disk_mb` now, in MiB; `bandwidth_mbps` in
    Mbit/s. Limits of the process's cgroups, and of their parents, count.
    """
    measured = {name: measure() for name, measure in _MEASURES.items()}
    return {name: much for name, much in measured.items() if much is not None}


def host() -> str:
    """Return the name of this machine."""
    # `socket.gethostname()` returns the same, but a reader need not import sockets.
    try:
        return os.uname().nodename
    except AttributeError:
        # This is for Windows.
        return os.environ.get("COMPUTERNAME", "")


def machine_labels() -> tuple[str, ...]:
    """
    Return the labels of workers on this machine, sorted.

    Its kind of processor, its platform, and the Python that runs here:
    `("machine:x86_64", "platform:linux", "python:3.12")`.
    """
    try:
        machine = os.uname().machine
    except AttributeError:
        # This is for Windows.
        machine = os.environ.get("PROCESSOR_ARCHITECTURE", "")
    labels = {
        "machine": machine,
        "platform": sys.platform,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    return tuple(
        f"{key}:{_OTHER_WORDS.get(value.lower(), value.lower())}"
        for key, value in labels.items()
        if value
    )


def whole_cores() -> int:
    """Return the number of cores, at least one."""
    return max(1, int(_cores() or 1))


def _cores() -> float | None:
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:
        # This function is missing on macOS.
        count = os.cpu_count()
        cores = float("inf") if count is None else float(count)
    for folder in _folders("cpu"):
        period = _read(f"{folder}/cpu.cfs_period_us")
        for text in (
            _read(f"{folder}/cpu.max"),
            f"{_read(f'{folder}/cpu.cfs_quota_us')} {period}",
        ):
            quota = text.split()
            if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():  # noqa: PLR2004 - "quota period"
                cores = min(cores, max(_LEAST, int(quota[0]) / int(quota[1])))
    return None if cores == float("inf") else cores


def _memory_mb() -> float | None:
    total = _NO_LIMIT
    with suppress(ValueError, OSError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(f"{folder}/{name}").strip()
            if text.isdigit():
                total = min(total, int(text))
    return None if total >= _NO_LIMIT else float(total // _MEGA)


def _disk_mb() -> float | None:
    try:
        disk = os.statvfs(".")
    except (AttributeError, OSError):
        return None
    return float(disk.f_bavail * disk.f_frsize // _MEGA)


def _bandwidth_mbps() -> float | None:
    """
    Return the Mbit/s of all interfaces that are up, with a device and a known speed.

    A bridge, a tunnel or the end of a container has no device; a virtual function
    shares the device of its interface.
    """
    try:
        # The module `pathlib` would be imported for this alone.
        names = os.listdir(_NETWORK)  # noqa: PTH208
    except OSError:
        return None
    total = 0
    for name in names:
        interface = f"{_NETWORK}/{name}"
        speed = _read(f"{interface}/speed").strip()
        if (
            # An interface with an unknown speed has no value, or -1, some in 32 bits.
            speed.isdigit()
            and 0 < int(speed) < _UNKNOWN_SPEED
            and _read(f"{interface}/operstate").strip() == "up"
            and os.path.exists(f"{interface}/device")  # noqa: PTH110 - as above
            and not os.path.exists(f"{interface}/device/physfn")  # noqa: PTH110
        ):
            total += int(speed)
    return float(total) if total else None


#: The functions that measure each resource; None from one means unknown. A further
#: resource of machines (`gpu`) is one more line.
_MEASURES: Final[Mapping[str, Callable[[], float | None]]] = {
    "cpu": _cores,
    "memory_mb": _memory_mb,
    "disk_mb": _disk_mb,
    "bandwidth_mbps": _bandwidth_mbps,
}
#: The measured resources.
MEASURED: Final = tuple(_MEASURES)


def _folders(controller: str) -> Iterator[str]:
    """Yield the control groups of the process, and their parents, for *controller*."""
    yield _CGROUP
    yield f"{_CGROUP}/{controller}"
    for line in _read(_GROUPS).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        root = f"{_CGROUP}/{controller}" if names else _CGROUP
        parts = [part for part in path.split("/") if part]
        for depth in range(1, len(parts) + 1):
            yield "/".join([root, *parts[:depth]])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - cheaper
            return file.read()
    except OSError:
        return ""
