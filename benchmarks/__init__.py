"""
What taskorch costs, measured beside its peers: run it with `python -m benchmarks`.

Every figure is taken in the same run as the figure of the peer that it is compared
with, because absolute figures do not travel from one machine to another. A case is
a function in `benchmarks/cases/`, registered by `@case`, that yields rows; its
docstring says what is measured. Only the public interface of taskorch is used.
"""
