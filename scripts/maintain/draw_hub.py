"""Draw README's picture of the hub: a model's page on which a picture was tried, in a headless Chromium.

python scripts/maintain/draw_hub.py          # writes .github/hub.png; needs Chromium, playwright, and wrn-hub[hub]

What is tried is a part of the sample that ships with the weights. Its answer is computed as the pages compute it for
everybody: in the browser where make try-in-browser was run, else by the server.
"""
import io
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from wrn_hub.cards.sample import SAMPLES
from wrn_hub.commands.cli import Parser, checkout, run
from wrn_hub.errors import UserError
from wrn_hub.files import write_whole
from wrn_hub.hub.serve import application, configuration
from wrn_hub.hub.store import FolderStore
from wrn_hub.hub.tryit import TryIt

NAME, PART = "wrn_16_2.cifar10", (80, 64, 240, 224)  # of its sample; of the whole every net is sure, whatever is done
WIDTH, BELOW = 1000, 24  # of the picture and below what was tried, in pixels of the page
FINER = 2  # pixels of the picture for one of the page, for screens that have them
COLOURS = 128


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The pages of a folder on a free port of this machine; yields their address."""
    store = FolderStore(folder)
    server = uvicorn.Server(configuration(application(store, TryIt(store)), port=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def tried(address: str, picture: bytes) -> bytes:
    """The page of a model down to what it says of a picture that was tried there; both PNGs."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        raise UserError("there is no Chromium on this machine (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        tab = chromium.new_page(viewport={"width": WIDTH, "height": WIDTH}, device_scale_factor=FINER,
                                color_scheme="light")
        tab.goto(address, wait_until="networkidle")
        tab.locator("#try-it input[type=file]").set_input_files(
            {"name": "ship.png", "mimeType": "image/png", "buffer": picture})
        tab.locator("#try-it:not([aria-busy]) .try-said", has_text="%").wait_for(timeout=120_000)
        tab.evaluate("scrollTo(0, 0)")
        bottom = tab.evaluate("document.querySelector('#try-it').getBoundingClientRect().bottom")
        return tab.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": round(bottom) + BELOW})


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, default=checkout() / ".github" / "hub.png", help="(%(default)s)")
    args = parser.parse_args()
    part, drawn = io.BytesIO(), io.BytesIO()
    with Image.open(SAMPLES / f"{NAME.partition('.')[2]}.png") as sample:
        sample.crop(PART).save(part, "PNG")
    with served(checkout() / "model_cards") as address:
        shot = tried(f"{address}/wrn-hub/{NAME}", part.getvalue())
    with Image.open(io.BytesIO(shot)) as whole:
        whole.convert("RGB").quantize(COLOURS).save(drawn, "PNG", optimize=True)
    write_whole(args.output, drawn.getvalue())
    print(f"{args.output}: {len(drawn.getvalue()) / 1e3:.0f} kB")


if __name__ == "__main__":
    run(main)
