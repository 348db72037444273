"""How fast a hub of many models is up, answers, and how much memory it takes.

python scripts/maintain/measure_hub.py --models 200

It serves copies of a staged model, each with a name of its own, in a process of its own.
"""
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from wrn_hub.commands.cli import Parser, checkout, run
from wrn_hub.files import write_whole

PAGES = ("/", "/?q=28-10", "/wrn-hub/net-7", "/compare?m=net-7&m=net-8", "/api/models")
TIMES = 5


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


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--models", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--of", default="wrn_16_2.cifar10", help="staged model that is copied (%(default)s)")
    args = parser.parse_args()

    import psutil

    with tempfile.TemporaryDirectory() as folder:
        _copies(checkout() / "model_cards" / args.of, Path(folder), args.models)
        started = time.perf_counter()
        with subprocess.Popen([sys.executable, "-m", "wrn_hub", "hub", folder, "--port", "0"], stdout=subprocess.PIPE,
                              text=True) as server:
            try:
                assert server.stdout
                endpoint = re.search(r"http://\S+", server.stdout.readline())
                assert endpoint
                print(f"up after {time.perf_counter() - started:.2f} s with {args.models} models")
                for page in PAGES:
                    first, *others = (_seconds(endpoint[0] + page) for _ in range(TIMES))
                    print(f"{page}: {first:.3f} s at first, {min(others):.3f} s then")
                print(f"{psutil.Process(server.pid).memory_info().rss / 1e6:.0f} MB")
            finally:
                server.terminate()


if __name__ == "__main__":
    run(main)
