"""``python -m train``."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: the trainer needs torch; install it with: pip install -e '.[train]'")
    # Only now: it imports torch.  The processes that make features import this file, without it.
    from train.cli import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
