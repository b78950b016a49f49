"""
The runtime drives the kernel: the only room with threads, locks and a clock.

1. One lock, held for microseconds; nothing of the user's is called under it but the
   fast policies.
2. What a step says is done outside the lock.
3. Facts are published in order, on a thread of their own.
4. A part says in a protocol beside it, `…Host`, what it asks of the runtime, and
   imports nothing that stands above it.
"""
