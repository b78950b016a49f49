"""`python -m taskorch` is the command line."""

import sys

from taskorch.cli import main

if __name__ == "__main__":
    sys.exit(main())
