"""
Front ends: other people's ways of writing work down, as tasks and workflows.

Each is a module of its own, and only a translator: it decides nothing.
"""
