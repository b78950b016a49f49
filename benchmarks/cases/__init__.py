"""The cases, one module for each subject."""

MODULES = (
    "throughput",
    "parts",
    "coroutines",
    "processes",
    "durable",
    "latency",
    "memory",
    "backlog",
    "elastic",
    "workflows",
    "explain",
    "published",
    "simulation",
    "simulate",
    "projects",
    "workspace",
    "imports",
)
"""The modules, in the order of the table; a new one is entered here."""
