"""
Calls in processes of our own: started, kept warm, watched, and killed if need be.

`_attempts` is what the orchestrator knows; `_pool` has one thread that looks after all
of them, `_process` is one of them as we see it, and `_worker` is what runs in it.
`_wire` is what goes between the two. All but `_attempts` is loaded with the first call.
"""
