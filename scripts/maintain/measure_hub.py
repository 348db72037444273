"""How fast a hub of many models is up, answers, and how much memory it takes.

python scripts/maintain/measure_hub.py --models 200
python scripts/maintain/measure_hub.py --models 200 --output model_cards/hub.json \\
    --readme model_cards/benchmarks/README.md                     # kept, and told beside the other benchmarks

It serves copies of a staged model, each with a name of its own, in a process of its own. What else the machine did just
before is measured and told too.
"""
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from wrn_hub.cards.markdown import table
from wrn_hub.cards.variants import update_between_marks
from wrn_hub.commands.cli import Parser, checkout, run
from wrn_hub.files import write_whole

UP = "/-/static/icon.svg"  # what costs nothing but a server that answers
PAGES = {"all models": "/", "models found": "/?q=28-10", "a model": "/wrn-hub/net-7",
         "two compared": "/compare?m=net-7&m=net-8", "list for programs": "/api/models"}
TIMES = 9  # each after the first


def _copies(staged: Path, folder: Path, count: int) -> None:
    """Links to the files of a staged model would lead out of the folder: the weights are linked hard, or copied."""
    for number in range(count):
        for file in staged.iterdir():
            place = folder / f"net-{number}" / file.name
            place.parent.mkdir(exist_ok=True)
            try:
                os.link(file, place)
            except OSError:  # another disk
                write_whole(place, file.read_bytes())


def _seconds(address: str) -> float:
    started = time.perf_counter()
    with urlopen(address) as answer:
        answer.read()
    return time.perf_counter() - started


def measure(models: int, of: str) -> dict[str, Any]:
    """Measure a hub of so many copies of a staged model.

    Returns:
        ``models``, ``of``; ``busy``, cores that other work kept busy just before, of ``cores``; seconds from the
        process's start until it answered (``up``) and until each page came, ``first`` and then in the median
        (``then``); its resident memory after all that in bytes (``memory``); ``command``, ``hardware``, ``versions``,
        ``date``.
    """
    import psutil
    import torch

    from wrn_hub.record import hardware, now, versions

    cores = psutil.cpu_count()
    busy = psutil.cpu_percent(interval=2) / 100 * cores
    with tempfile.TemporaryDirectory() as folder:
        _copies(checkout() / "model_cards" / of, Path(folder), models)
        started = time.perf_counter()
        with subprocess.Popen([sys.executable, "-m", "wrn_hub", "hub", folder, "--port", "0"], stdout=subprocess.PIPE,
                              text=True) as server:
            try:
                assert server.stdout
                endpoint = re.search(r"http://\S+", server.stdout.readline())
                assert endpoint
                _seconds(endpoint[0] + UP)
                up, pages = time.perf_counter() - started, {}
                for name, page in PAGES.items():
                    first, *others = (_seconds(endpoint[0] + page) for _ in range(1 + TIMES))
                    pages[name] = {"address": page, "first": round(first, 4),
                                   "then": round(statistics.median(others), 4)}
                memory = psutil.Process(server.pid).memory_info().rss
            finally:
                server.terminate()
    return {
        "models": models, "of": of, "up": round(up, 3), "pages": pages, "memory": memory, "busy": round(busy, 2),
        "cores": cores, "hardware": hardware(torch.device("cpu")).partition(",")[0], "versions": versions(),
        "date": now(), "command": shlex.join(["python", "scripts/maintain/measure_hub.py", *sys.argv[1:]])}


def told(measured: dict[str, Any]) -> str:
    """What :func:`measure` found, in Markdown."""
    rows = [[name, f"`{page['address']}`", f"{page['first']:.3f}", f"{page['then']:.3f}"]
            for name, page in measured["pages"].items()]
    return (
        f"`{measured['command']}`\n\n"
        f"On {measured['hardware']}, {measured['cores']} cores, of which other work kept {measured['busy']:.1f} busy, "
        f"Python {measured['versions']['python']}, {measured['date'][:10]}: a hub of {measured['models']} models, "
        f"copies of {measured['of']}, is up {measured['up']:.2f} s after its start, and takes "
        f"{measured['memory'] / 1e6:.0f} MB after all pages below, each timed from asking to its last byte, on the "
        f"first time and in the median of {TIMES} more:\n\n"
        f"{table(['page', 'address', 'first, s', 'then, s'], rows, right=(2, 3), padded=True)}\n\n"
        "What is asked for first waits until every file has its sum.\n")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--models", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--of", default="wrn_16_2.cifar10", help="staged model that is copied (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--readme", type=Path, help="file whose section on the hub is brought up to date")
    args = parser.parse_args()
    measured = measure(args.models, args.of)
    print(told(measured), end="")
    if args.output:
        write_whole(args.output, json.dumps(measured, indent=2) + "\n")
    if args.readme:
        update_between_marks(args.readme, told(measured), "hub")


if __name__ == "__main__":
    run(main)
