"""`python -m taskorch.frontends.suite run CONFIG`."""

from __future__ import annotations

import sys

from taskorch.frontends.suite._command import main

if __name__ == "__main__":
    sys.exit(main())
