"""
The executor of programs, from a command to the last process that it leaves behind.

These modules start programs, read their output and end them; the guardian does so after
our death; and a sweep ends those of earlier incarnations. No module here may know of
the runtime, the guardian imports nothing of ours, and importing this package loads no
part.

- `_attempts`: attempts that are programs: how they are begun, and what their ends mean.
- `_executor`: the one thread that starts programs and looks after them; its loop.
- `_run`: the life of one program, from its start to the report of its end; files with
  its process id, and with its allocation.
- `_spawn`: a program as a process; descriptors that a fork must not keep open.
- `_process`: a program, for its users: signals, and the end.
- `_output`: its input and output; the end of it in memory, all in files.
- `_family`: all processes that it has started: found, and ended; kills of the machine
  for lack of memory.
- `_governor`: holds programs to limits, by groups of the system or by watching them.
- `_isolation`, `_confine`: the paths that a program may use; the launcher that gives up
  all other rights.
- `_sweep`: ends what earlier runs have left behind.
- `_guard`, `_guardian`: the small process that ends our programs if we die and cannot.
"""
