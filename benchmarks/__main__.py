"""The entry point of `python -m benchmarks`."""

from benchmarks._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
