"""
The tool kit: helpers for any package and for extensions, without tasks.

It imports only the errors of the library; this file imports nothing of it.

- `limits`: every default number of the library, each with its reason.
- `vocabulary`, `others`: words of other tools; the word that a typing error meant.
- `visible`: texts for people that contain values of tasks or users.
- `plain`: values as JSON.
- `raised`: the class, message and place of an error.
- `allowance`: the number of calls that may fail.
- `checks`: checks of arguments, with errors in words.
- `fence`: protection from errors of users' values and log handlers.
- `words`: numbers, times and lists for people.
- `clock`: the only place that reads a clock.
- `drawing`: common parts of pictures: texts that fit, a frame, a legend.
- `address`: addresses of servers, which may stand for paths; their passwords.
- `machine`: resources and labels of this machine; its GPUs.
- `lease`: a lease, which ends unless it is renewed.
- `frozen`: frozen attrs classes, with methods made on first use; immutable mappings.
- `members`: the members of a protocol, and whether an object has them.
- `ends`: errors of calls that did not succeed; the time for a kill.
- `described`: descriptions of options, each once, at the declaration.
- `building`: the workflow that is being built, and calls that add tasks to it.
- `verbs`: descriptions of verbs, at their methods.
- `processes`, `loop`: processes and forks; an event loop on one thread.
- `interrupts`: signals on the main thread, deferred to the end of a step.
- `people`, `place`: callers and their roles; the present step.
- `noted`: notes on runs.
- `staged`, `temporary`: files that appear whole; temporary folders of a process.
- `backoff`: growing pauses between tries; waits for a store, with a limit.
- `canonical`, `tree`: JSON in its one canonical form; a tree of hashes over rows.
- `connections`: HTTP connections that are reused.
- `digests`: digests of values and functions.
- `deadline`: the deadline of a wait for a peer.
- `located`: values with their places in a file.
- `yaml_text`: the part of YAML 1.2 that corresponds to JSON.
- `forms`, `findings`: forms of values in documents; faults of values by a schema.
- `extension`, `kept`: the base class of extensions; their documents.
- `ticks`: the progress of the ticks of a schedule.
- `patterns`: regular expressions of users, in bounded time.

Decisions: documents, extensions, failures-and-recovery, rooms-and-loading.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module


def load_late(
    room: str, places: dict[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """
    Return `__getattr__` and `__dir__` of a module that loads files late.

    A file is loaded on the first access to one of its names, which the module keeps.

    Args:
        room: The name of the module.
        places: The file of each name that is loaded late, without the package; or with
            its whole path, if it is elsewhere.
    """
    module = sys.modules[room]

    def load(name: str) -> object:
        if name not in places:
            msg = f"module {room!r} has no attribute {name!r}"
            raise AttributeError(msg, name=name)
        place = places[name]
        path = place if place.startswith("taskorch.") else f".{place}"
        file = import_module(path, module.__package__)
        member: object = getattr(file, name)
        setattr(module, name, member)
        return member

    return load, lambda: sorted({*vars(module), *places})


def give_again(
    room: str, of: str
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """
    Return `__getattr__` and `__dir__` of a module that has the public names of another.

    Args:
        room: The name of the module.
        of: The module that it has them of, which is loaded on the first access.
    """

    def load(name: str) -> object:
        if name != "__all__" and name.startswith("_"):
            msg = f"module {room!r} has no attribute {name!r}"
            raise AttributeError(msg, name=name)
        member: object = getattr(import_module(of), name)
        return member

    return load, lambda: [n for n in dir(import_module(of)) if not n.startswith("_")]
