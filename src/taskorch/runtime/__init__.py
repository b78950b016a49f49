"""
The runtime drives the kernel: the only room with threads, locks and a clock.

1. One lock, held for microseconds; nothing of the user's is called under it but the
   fast policies.
2. What a step says is done outside the lock.
3. Facts are published in order, on a thread of their own.
4. A part has the runtime, whose class it imports for its annotations alone, and
   imports nothing else that stands above it.

It decides nothing, and says nothing to users but errors. A task comes in by `_passage`
and `_batch`, and ends in `_passage`: see docs/explanation/way-of-a-task.md. From the
bottom up:

- `_interrupts`, `_asyncio`, `_loops`, `_clock`: signals, event loops, the time.
- `_reruns`, `_deciders`, `_work`: ids of runs, the policies guarded, a task here.
- `_documents`, `_translation`, `_memo`: what is kept, what options mean, old results.
- `_context`, `_timer`, `_publisher`: what attempts are given, what is due, who listens.
- `_notices`, `_waiting`: what went wrong where nobody is told; who waits for what.
- `_committer`, `_attempts`: facts that are kept; attempts under way.
- `_identity`, `_directory`, `_stale`: what a task is, what an id means, what is old.
- `_batch`, `_submission`, `_passage`: tasks on their way in, taken in, to their end.
- `_end`, `_opening`: the end of a life, and the beginning of the next.
- `_runtime`: the lock, the steps, and all parts; what a simulation has of them, too.
- `_lifecycle`, `_questions`, `_reports`: start and stop, people, how things stand.
"""
