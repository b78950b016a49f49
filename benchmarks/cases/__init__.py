"""The cases, one module for each subject."""

MODULES = (
    "throughput",
    "parts",
    "coroutines",
    "durable",
    "latency",
    "memory",
    "backlog",
    "published",
    "simulation",
    "imports",
)
"""The modules, in the order of the table; a new one is entered here."""
