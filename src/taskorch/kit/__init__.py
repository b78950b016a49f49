"""
The tool kit: what any room may need, and what an extension takes, that is no task.

It imports nothing else of ours but the errors. This file imports nothing of ours.

- `limits`: every default number of the library, each with its reason.
- `vocabulary`, `others`: words of other tools, and slips of the pen: what was meant.
- `visible`: texts for people that hold what tasks or users have supplied.
- `plain`: values as JSON can say them.
- `raised`: what is told of an error: its class, its message, and where it was raised.
- `allowance`: how many of some calls may fail.
- `checks`: whether an argument is what it says, refused at once and in words.
- `fence`: errors of values that are looked at, and of handlers of the log: any.
- `words`: how numbers, times and lists stand in what people read.
- `clock`: the time: the only place that reads a clock.
- `drawing`: what all pictures share: texts that fit, a frame, a legend.
- `address`: addresses of servers, where a path may stand, too; their passwords.
- `machine`: what this machine has, and what it is; its GPUs.
- `lease`: how long somebody counts as there, from their latest sign of life on.
- `frozen`: frozen attrs classes whose methods are written when they are first used.
- `members`: the members of a protocol, and whether an object has them.
- `ends`: what is to be said of a call that came to nothing; how long a kill may take.
- `described`: how options are described, each once, where they are declared.
- `building`: the workflow that is being written down, and calls that add tasks to it.
- `verbs`: what can be done with an orchestrator, said at the methods that do it.
- `processes`, `loop`: processes and forks; a thread that waits for descriptors, times.
- `interrupts`: signals on the main thread that wait for the end of a step.
- `people`, `place`: who asks, when two names are one person's; in which step one is.
- `read_only`: mappings that nobody changes.
- `staged`, `temporary`: files that are whole or not there; folders of one process.
- `backoff`: pauses between tries, each longer than the one before.
- `canonical`, `tree`: JSON in its one canonical form; a tree of hashes over rows.
- `connections`: connections over HTTP that are kept, and used again.
- `digests`: what values and functions are, in bytes: the same for what is alike.
- `deadline`: until when a peer is waited for, whatever it says meanwhile.
- `located`: values that know where they stand in a file.
- `yaml_text`: YAML 1.2, the part of it that is JSON in other letters.
- `forms`: what a value of a document may be: how it is read, its schema, its page.
- `extension`, `kept`: the base of an extension; its documents, by their keys.
- `ticks`: the document that says how far the ticks of a schedule came.
- `patterns`: regular expressions of users, in bounded time.

Decisions: 0076, 0129, 0165, 0196, 0203, 0254, 0260, 0262.
"""

from __future__ import annotations

import sys
from importlib import import_module


def load_late(room: str, places: dict[str, str], name: str) -> object:
    """
    Load the member *name* of *room* from the file that has it, and keep it in the room.

    A room whose `__getattr__` calls it loads a file when somebody first asks for one of
    its names.

    Args:
        room: The name of the package.
        places: The file of each name that is loaded late, without the package.
        name: What was asked for.

    Raises:
        AttributeError: The room has no such name.
    """
    if name not in places:
        msg = f"module {room!r} has no attribute {name!r}"
        raise AttributeError(msg, name=name)
    member: object = getattr(import_module(f"{room}.{places[name]}"), name)
    setattr(sys.modules[room], name, member)
    return member
