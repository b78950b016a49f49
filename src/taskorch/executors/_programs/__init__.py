"""
The executor of programs, from a command to the last process that it leaves behind.

Here belongs what starts programs, reads what they write and ends them; the guardian,
who does so after our death; and what ends those of earlier lives. Nothing here may know
of the runtime, the guardian imports nothing of ours, and importing this loads no part.
"""
