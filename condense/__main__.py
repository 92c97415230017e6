"""`python -m condense` is the command `condense`."""

from condense.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
