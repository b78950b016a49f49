"""
The executor of programs, from a command to the last process that it leaves behind.

Here belongs what starts programs, reads what they write and ends them; the guardian,
who does so after our death; and what ends those of earlier lives. Nothing here may know
of the runtime, the guardian imports nothing of ours, and importing this loads no part.

- `_attempts`: attempts that are programs: how they are begun, and what their ends mean.
- `_executor`: the one thread that starts programs and looks after them; its
  loop.
- `_run`: the life of one program, from its start to the end that is told; files with
  its process id, and with what it holds.
- `_spawn`: a program as a process; what forks must not keep open.
- `_process`: what others hold of a program: whom to signal, and the end.
- `_output`: what it reads and writes; the end of it in memory, all in files.
- `_family`: whatever processes it has started: found, and ended; whom the machine has
  killed for want of memory.
- `_governor`: holds programs to limits, by groups of the system or by watching them.
- `_isolation`, `_confine`: what the scopes of a program come to; the launcher that
  gives up all other rights.
- `_sweep`: ends what earlier runs have left behind.
- `_guard`, `_guardian`: the small process that ends our programs if we die and cannot.
"""
