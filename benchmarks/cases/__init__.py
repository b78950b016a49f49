"""The cases, one module for each subject."""

MODULES = (
    "throughput",
    "parts",
    "coroutines",
    "processes",
    "peers",
    "telemetry",
    "durable",
    "latency",
    "memory",
    "backlog",
    "elastic",
    "adaptive",
    "recovery",
    "workflows",
    "explain",
    "published",
    "simulation",
    "simulate",
    "projects",
    "workspace",
    "suites",
    "service",
    "agents",
    "first_result",
)
"""The modules, in the order of the table; a new one is entered here."""
