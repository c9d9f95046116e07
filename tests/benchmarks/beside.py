"""``python -m tests.benchmarks.beside OTHER [BENCHMARK]``: a benchmark of two checkouts, in turn.

Runs it in the checkout OTHER, then in this one, and so on, each with its own ``.venv-train``;
prints of each line of the output the median of both and their ratio.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

N_ROUNDS = 3
_LINE = re.compile(r"(.+?)\s+(\d+\.?\d*)(?:\s|$)")


def run(checkout: Path, benchmark: str) -> dict[str, float]:
    """Return the first number of each line that *benchmark* prints in *checkout*."""
    done = subprocess.run(
        [str(checkout / ".venv-train" / "bin" / "python"), "-m", benchmark],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = map(_LINE.match, done.stdout.splitlines())
    return {line.group(1): float(line.group(2)) for line in lines if line}


def main(other: Path, benchmark: str) -> None:
    """Run *benchmark* in turn, and print its figures side by side."""
    checkouts: Sequence[Path] = (other, Path.cwd())
    rounds = [[run(checkout, benchmark) for checkout in checkouts] for _ in range(N_ROUNDS)]
    print(f"{'':45} {'other':>9} {'this':>9} {'ratio':>7}")
    for name in rounds[0][0]:
        before, after = (
            statistics.median(each[index][name] for each in rounds) for index in range(2)
        )
        print(f"{name:45} {before:9.3f} {after:9.3f} {after / before:7.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "tests.benchmarks")
