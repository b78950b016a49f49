"""
Calls in processes of our own: started, kept warm, watched, and killed if need be.

One thread looks after all of them. All but `_attempts` is loaded with the first call.
Processes of other machines are in `_hosts`, and programs in `_programs`.

- `_attempts`: attempts that are calls, as the orchestrator knows them.
- `_pool`: gives calls to the processes: the thread that looks after them.
- `_process`: one process, as we see it: its start, its link, its end.
- `_worker`: the code in the process: it takes calls, one at a time, and makes them.
- `_telling`: messages of processes besides the ends of calls, and errors about them.
"""
