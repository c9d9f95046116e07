"""``make structure``: what a stranger has to learn, in figures, of one checkout or of several.

``python -m tests.benchmarks.structure CHECKOUT [CHECKOUT ...]``; each needs its own ``.venv``, in
which its daemon is started, in turn with the others, for the figures of start and memory.
"""

from __future__ import annotations

import ast
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import soundfile

from tests.detect.models import make_model, normal_sound

LAYERS = (
    {"cli"},
    {"service", "offline"},
    {"publish"},
    {"models"},
    {"baseline"},
    {"detect", "capture"},
    {"common"},
)
N_STARTS = 7
SETTLED_S = 4.0
RATE = 16_000
CONFIG = """
node = "n1"
state_dir = "state"
[mqtt]
port = 1
[[machine]]
name = "m1"
model = "tiny.onnx"
[machine.file]
path = "sound.wav"
repeat = true
"""

Graph = Mapping[str, set[str]]


def import_graph(checkout: Path, package: str) -> Graph:
    """Return for each module of *package* those of the same package that it imports."""
    paths = {
        ".".join(path.relative_to(checkout).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (checkout / package).rglob("*.py")
    }
    graph = {}
    for name, path in paths.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    imported.add(full if full in paths else node.module)
            elif isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
        graph[name] = (imported & paths.keys()) - {name}
    return graph


def n_levels(graph: Graph) -> int:
    """Return the number of modules on the longest chain of imports."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 1  # also what ends a cycle
            depths[name] += max(map(depth, graph[name]), default=0)
        return depths[name]

    return max(map(depth, graph))


def n_against(graph: Graph) -> int:
    """Return how many imports go up or sideways between the folders of a package.

    In a package without our layers, these are the imports between two folders that import each
    other, in the direction that has fewer; what lies in no folder counts as one.
    """
    arrows = [
        (folder_of(name), folder_of(other)) for name, others in graph.items() for other in others
    ]
    arrows = [(one, other) for one, other in arrows if one != other and "" not in {one, other}]
    rank = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}
    if all(folder in rank for arrow in arrows for folder in arrow):
        return sum(rank[one] >= rank[other] for one, other in arrows)
    pairs = {tuple(sorted(arrow)) for arrow in arrows}
    return sum(min(arrows.count((one, other)), arrows.count((other, one))) for one, other in pairs)


def folder_of(module: str) -> str:
    """Return the folder of the package that *module* lies in; ``root`` if in none."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] == "__main__":
        return ""
    return parts[1] if len(parts) > 2 or parts[1] in set.union(*LAYERS) else "root"


def longest_function(paths: Sequence[Path]) -> int:
    """Return the lines of the longest function's body, without its docstring."""
    functions = [
        node
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = []
    for function in functions:
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lengths += [(body[-1].end_lineno or 0) - body[0].lineno + 1 for _ in body[:1]]
    return max(lengths)


def n_public(paths: Sequence[Path]) -> int:
    """Return the number of classes and functions of modules whose names are public."""
    return sum(
        isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        for path in paths
        for node in ast.parse(path.read_text()).body
    )


def n_on_the_walk(checkout: Path) -> str:
    """Return how many objects the walk of a block has, as the documentation counts them."""
    page = checkout / "docs" / "architecture.md"
    found = re.search(
        r"walk of a block.*?\n(.*?)\n## ", page.read_text(), re.DOTALL | re.IGNORECASE
    )
    steps = re.findall(r"^\d+\. ", found.group(1), re.MULTILINE) if found else []
    return str(len(steps))


def figures(checkout: Path) -> dict[str, str]:
    """Return what is counted of the source in *checkout*."""
    found: dict[str, str] = {}
    for package in ("edgeasd", "train"):
        folder = checkout / package
        paths = sorted(folder.rglob("*.py"))
        graph = import_graph(checkout, package)
        n_entries = [
            sum(
                entry.suffix == ".py" or (entry / "__init__.py").exists() for entry in one.iterdir()
            )
            for one in (folder, *folder.rglob("*"))
            if (one / "__init__.py").exists()
        ]
        found |= {
            f"{package}: modules": str(len(paths)),
            f"{package}: modules at the root": str(len(list(folder.glob("*.py")))),
            f"{package}: most entries of a folder": str(max(n_entries) - 1),
            f"{package}: levels of imports": str(n_levels(graph)),
            f"{package}: lines": str(sum(len(path.read_text().splitlines()) for path in paths)),
            f"{package}: public names": str(n_public(paths)),
            f"{package}: longest function, lines": str(longest_function(paths)),
            f"{package}: longest module, lines": str(
                max(len(path.read_text().splitlines()) for path in paths)
            ),
        }
    found["edgeasd: imports against the direction"] = str(
        n_against(import_graph(checkout, "edgeasd"))
    )
    page = checkout / "docs" / "architecture.md"
    found["objects on the walk of a block"] = n_on_the_walk(checkout) if page.exists() else "?"
    return found


def start_daemon(checkout: Path, folder: Path) -> tuple[float, float]:
    """Start the daemon of *checkout*; return its CPU seconds until ready, and MB after a while."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        address = folder / "notify"
        address.unlink(missing_ok=True)
        notifications.bind(str(address))
        notifications.settimeout(120)
        process = subprocess.Popen(
            [str(checkout / ".venv" / "bin" / "edgeasd"), "run", "--config", "edgeasd.toml"],
            cwd=folder,
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            stderr=subprocess.DEVNULL,
        )
        try:
            while b"READY=1" not in notifications.recv(4096):
                pass
            times = psutil.Process(process.pid).cpu_times()
            time.sleep(SETTLED_S)
            resident = psutil.Process(process.pid).memory_info().rss / 1e6
            return times.user + times.system + times.children_user, resident
        finally:
            process.terminate()
            process.wait()


def main(checkouts: Sequence[Path]) -> None:
    """Print a line a figure, with a column a checkout."""
    columns = [figures(checkout) for checkout in checkouts]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "tiny.onnx")
        soundfile.write(folder / "sound.wav", normal_sound(20 * RATE, 5), RATE)
        (folder / "edgeasd.toml").write_text(CONFIG)
        rounds = [[start_daemon(one, folder) for one in checkouts] for _ in range(N_STARTS)]
    for index, column in enumerate(columns):
        cpu_s, resident = zip(*(each[index] for each in rounds), strict=True)
        column["daemon, one machine: CPU to the start, s"] = f"{statistics.median(cpu_s):.2f}"
        column["daemon, one machine: resident, MB"] = f"{statistics.median(resident):.1f}"
    for name in columns[0]:
        print(f"{name:45}", *(f"{column[name]:>8}" for column in columns))


if __name__ == "__main__":
    main([Path(argument).resolve() for argument in sys.argv[1:]] or [Path.cwd()])
