"""
What everything stands on: it imports nothing else of ours.

Here belongs what any room may need, the errors and the values included: words, numbers,
and a few tools. What knows of a task, or raises an error of ours, stands higher. This
file imports nothing, so that each costs only who needs it.

- `_limits`: every default number of the library, each with its reason.
- `_vocabulary`: other words for what there is, and slips of the pen: what was meant.
- `_visible`: texts for people that hold what tasks or users have supplied.
- `_address`: addresses of servers, where a path may stand, too; their passwords.
- `_lease`: how long somebody counts as there, from their latest sign of life on.
- `_frozen`: frozen attrs classes whose methods are written when they are first used.
- `_staged`: files that are there as a whole, or not at all.
- `_backoff`: pauses between tries, each longer than the one before.
- `_connections`: connections over HTTP that are kept, and used again.

Decision: 0165.
"""
