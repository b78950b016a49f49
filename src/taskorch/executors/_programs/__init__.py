"""
The executor of programs, from a command to the last process that it leaves behind.

Here belongs all that starts programs, reads what they write and sees that they end, the
guardian that does so after our death, and the folders for what they write. Nothing here
may know of tasks; the guardian imports nothing of ours, and importing this package
loads none of its parts, for most runs start no program.
"""
