"""The hub's pages in a real Chromium: open to everybody, without an error, and a picture's class is what predict says.

Without Chromium, or what looks for barriers, these tests are skipped.
"""
import base64
import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hub_server import served
from PIL import Image

from wrn_hub.evaluation.predict import Predictor, predict
from wrn_hub.hub.serve import application
from wrn_hub.hub.store import FolderStore
from wrn_hub.hub.tryit import TryIt, answer

NAME = "wrn_16_2.cifar10"
PAGES = ("/", "/?q=xyzzy", f"/wrn-hub/{NAME}", "/wrn-hub/pets", "/wrn-hub/wrn_28_10", f"/wrn-hub/{NAME}/tree/main",
         f"/compare?m={NAME}&m=wrn_16_1.cifar10", "/frontier", "/wrn-hub/nothing")


@pytest.fixture(scope="module")
def hub(gallery) -> Iterator[str]:
    store = FolderStore(gallery)
    with served(application(store, TryIt(store, in_browser=False))) as address:
        yield address


def test_no_page_has_a_barrier_or_an_error(hub, browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    complaints: list[str] = []
    for width in (1280, 390):
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda problem: complaints.append(str(problem)))
        for path in PAGES:
            tab.goto(hub + path, wait_until="networkidle")
            if path == f"/wrn-hub/{NAME}":  # with an answer
                tab.get_by_role("button", name="Try the sample").click()
                tab.locator("#try-it:not([aria-busy]) .try-said", has_text="ship").wait_for()
            for scheme in ("light", "dark"):  # which are the style sheet's alone
                tab.emulate_media(color_scheme=scheme)
                found = axe.run(tab).response["violations"]
                assert not found, (path, width, scheme, [(one["id"], one["nodes"][0]["html"]) for one in found])
                assert tab.evaluate("document.documentElement.scrollWidth") == width, path
        tab.close()
    # the answer 404 itself is one that the browser tells of
    assert [text for text in complaints if "404 (Not Found)" not in text] == []


def test_a_picture_is_taken_for_what_predict_takes_it_for(hub, browser, gallery, pictures):
    expected = predict(pictures, f"local-dir:{gallery / NAME}", topk=1)
    tab = browser.new_page()
    tab.goto(f"{hub}/wrn-hub/{NAME}", wait_until="networkidle")
    for picture, right in zip(pictures, expected, strict=True):
        tab.locator("#try-it input[type=file]").set_input_files(picture)
        tab.locator("#try-it:not([aria-busy]) .try-said", has_text="%").wait_for()
        assert tab.inner_text("#try-it .try-said") == f"{right.classes[0]}, {100 * right.probabilities[0]:.1f} %"
        tab.reload(wait_until="networkidle")
    tab.get_by_role("button", name="Try the sample").click()
    tab.locator("#try-it .try-said", has_text="ship").wait_for()


def test_a_drawing_opened_by_a_click_is_the_drawing(hub, browser):
    tab = browser.new_page(viewport={"width": 500, "height": 400})
    tab.goto(f"{hub}/wrn-hub/{NAME}", wait_until="networkidle")
    tab.get_by_role("link", name="Accuracy by epoch").click()
    tab.wait_for_load_state("networkidle")
    assert tab.url.endswith("/curve.svg")
    shown = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    assert shown.getpixel((3, 3)) == (255, 255, 255)  # its paper, which without its styles is black


def test_pictures_are_resized_in_the_browser_as_pillow_does_it(hub, browser):
    tab, draw = browser.new_page(), np.random.default_rng(0)
    tab.goto(f"{hub}/frontier")
    for (width, height), (to_width, to_height) in (((37, 53), (32, 46)), ((200, 90), (71, 32)), ((9, 7), (41, 32))):
        image = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for kind in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
            found = tab.evaluate(
                """async ([data, width, height, toWidth, toHeight, filter]) => {
                     const { resized } = await import("/-/static/resample.js");
                     return [...resized({ data, width, height }, toWidth, toHeight, filter).data];
                   }""",
                [list(image.tobytes()), width, height, to_width, to_height, kind.name.lower()])
            assert bytes(found) == image.resize((to_width, to_height), kind).tobytes()


def test_the_script_draws_the_frontier_that_the_server_draws(hub, browser):
    asked = "?dataset=CIFAR-10&measure=ece&axis=speed"
    with_script, without = browser.new_page(), browser.new_context(java_script_enabled=False).new_page()
    places = []
    for tab in (with_script, without):
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.goto(f"{hub}/frontier{asked}", wait_until="networkidle")
        places.append([(circle.get_attribute("cx"), circle.get_attribute("cy"))
                       for circle in tab.locator(".plot circle").all()])
    assert len(places[0]) == 2 and places[0] == places[1]
    with_script.locator("select[name=axis]").select_option("parameters")
    assert with_script.url.endswith("axis=parameters")
    with_script.locator(".plot a", has_text="16-2").click()
    assert with_script.url == f"{hub}/wrn-hub/{NAME}"


def test_a_picture_is_tried_in_a_static_export_without_any_server_of_ours(site, browser, gallery, pictures):
    """Where onnxruntime-web was fetched (make try-in-browser)."""
    if not (site / "-" / "net").is_dir():
        pytest.skip("onnxruntime-web isn't here: make try-in-browser")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tab, predictor = browser.new_page(), Predictor(f"local-dir:{gallery / NAME}")
    try:
        for picture in pictures:
            right = answer(predictor, picture.read_bytes())
            tab.goto(f"http://127.0.0.1:{server.server_port}/wrn-hub/{NAME}/", wait_until="networkidle")
            tab.locator("#try-it input[type=file]").set_input_files(picture)
            tab.locator("#try-it:not([aria-busy]) .try-said", has_text="%").wait_for()
            assert tab.inner_text("#try-it .try-said").startswith(f"{right['classes'][0]}, ")
            if picture.suffix == ".png":  # of a JPEG the last bit is the decoder's
                seen = tab.evaluate("""() => {
                    const canvas = document.querySelector("canvas.seen");
                    return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
                }""")
                shown = Image.open(io.BytesIO(base64.b64decode(right["input"]))).convert("RGBA")
                assert bytes(seen) == shown.tobytes(), picture.name
    finally:
        server.shutdown()
