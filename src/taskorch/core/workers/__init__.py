"""
Workers that live elsewhere: `orch.agents`.

Those that taskorch starts itself are in extensions, which are asked for once somebody
spawns one. What a worker is asked, and what it answers, is text: nothing is pickled.

- `_manager`: workers that join, their leases and what they are given.
- `_late_ends`: ends of attempts that their workers bring to a later incarnation.

Decision: rooms-and-loading.
"""
