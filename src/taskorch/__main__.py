"""`python -m taskorch`: the command line; without a command, `taskorch demo`."""

from __future__ import annotations

import sys

from taskorch.ext.command_line import main

if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.argv.append("demo")
    sys.exit(main())
