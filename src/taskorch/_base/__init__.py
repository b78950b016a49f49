"""
What everything stands on: it imports nothing else of ours.

Here belongs what any room may need, the errors and the values included: words, numbers,
and a few tools. What knows of a task, or raises an error of ours, stands higher. This
file imports nothing, so that each costs only who needs it.

- `limits`: every default number of the library, each with its reason.
- `vocabulary`: other words for what there is, and slips of the pen: what was meant.
- `visible`: texts for people that hold what tasks or users have supplied.
- `fence`: errors of values that are looked at: they may raise anything.
- `words`: how numbers and moments stand in what people read.
- `address`: addresses of servers, where a path may stand, too; their passwords.
- `gpus`: the GPUs of this machine.
- `lease`: how long somebody counts as there, from their latest sign of life on.
- `frozen`: frozen attrs classes whose methods are written when they are first used.
- `members`: the members of a protocol, and whether an object has them.
- `ends`: what is to be said of a call that came to nothing; how long a kill may take.
- `described`: how options are described, each once, where they are declared.
- `building`: the workflow that is being written down, and calls that add tasks to it.
- `verbs`: what can be done with an orchestrator, said at the methods that do it.
- `people`: who asks: a caller whose name was proved; when two names are one person's.
- `read_only`: mappings that nobody changes.
- `staged`: files that are there as a whole, or not at all.
- `backoff`: pauses between tries, each longer than the one before.
- `canonical`: JSON in its one canonical form, which is hashed and signed.
- `connections`: connections over HTTP that are kept, and used again.
- `deadline`: until when a peer is waited for, whatever it says meanwhile.

Decision: 0165.
"""
