"""
The settings of an orchestrator: what there is, and where it is written down.

Here belongs what a constructor of ours takes. Options of tasks are described in
`model`, the policies in `policies`, the numbers that are the defaults in `kit`. A
file is read only if it is asked for, so nothing is imported here.

- `fields`: each setting described once: its field, its check, how it is written.
- `configuration`: settings from a file and from variables, and the faults in them.
"""
