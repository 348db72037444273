"""Trying a model on a picture by the hub's server: it says what predict says, within limits."""
import base64
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from conftest import NAME
from hub_server import make_model, served
from PIL import Image

from wrn_hub.errors import UserError
from wrn_hub.evaluation.predict import Predictor, predict
from wrn_hub.hub.serve import application
from wrn_hub.hub.store import FolderStore
from wrn_hub.hub.tryit import MOST_BYTES, MOST_WAITING, TryIt, allowed, seen


@pytest.fixture(scope="module")
def endpoint(gallery):
    store = FolderStore(gallery)
    with served(application(store, TryIt(store))) as address:
        yield address


def ask(address: str, picture: bytes, **headers: str):
    with urlopen(Request(address, data=picture, headers=headers)) as answer:
        return json.load(answer)


def refused(address: str, picture: bytes, **headers: str) -> tuple[int, str, dict]:
    with pytest.raises(HTTPError) as caught:
        ask(address, picture, **headers)
    return caught.value.code, json.load(caught.value)["error"], caught.value.headers


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def as_png(*size: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("which", [0, 1, 2], ids=["photo", "transparent", "gray"])
def test_it_says_what_predict_says_of_the_same_file(endpoint, pictures, which):
    said = ask(f"{endpoint}/api/predict/wrn-hub/{NAME}", pictures[which].read_bytes())
    (told,) = predict([pictures[which]], NAME)
    assert said["classes"] == told.classes and said["probabilities"] == pytest.approx(told.probabilities, abs=1e-5)
    assert pixels(said["input"]).shape == (32, 32, 3) and said["size"] == 32
    assert said["seen"] == ("The shorter side is brought to 32 pixels (bicubic), and the 32x32 in the middle are seen.")


def test_what_the_net_sees_is_shown_and_so_is_what_a_change_changes(endpoint, pictures, tmp_path):
    """Each change is made by hand, from the pixels that are shown, and told to predict."""
    said = ask(f"{endpoint}/api/predict/wrn-hub/{NAME}", pictures[0].read_bytes())
    image, shift = pixels(said["input"]), said["pixels"]
    wide = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
    made = {
        "same": image, "mirrored": image[:, ::-1], "left": wide[shift:-shift, 2 * shift :],
        "right": wide[shift:-shift, : -2 * shift], "up": wide[2 * shift :, shift:-shift],
        "down": wide[: -2 * shift, shift:-shift]}
    for name, one in made.items():
        Image.fromarray(np.ascontiguousarray(one)).save(tmp_path / f"{name}.png")
    told = {Path(one.image).stem: one for one in predict([tmp_path], NAME)}
    answers = {"same": {"class": said["classes"][0], "probability": said["probabilities"][0]},
               "mirrored": said["mirrored"], **said["shifted"]}
    assert set(answers) == set(told) == set(made) and shift == 4
    for name, one in answers.items():
        assert (one["class"], one["probability"]) == (
            told[name].classes[0], pytest.approx(told[name].probabilities[0], abs=1e-5)), name


def test_a_model_of_ones_own_answers_with_its_own_classes(endpoint, pictures):
    said = ask(f"{endpoint}/api/predict/wrn-hub/pets", pictures[2].read_bytes())
    assert sorted(said["classes"]) == ["<b>dog</b>", "cat"] and sum(said["probabilities"]) == pytest.approx(1)


def test_a_predictor_answers_many_times(pictures):
    predictor = Predictor(NAME)
    image = predictor.prepare(np.asarray(Image.open(pictures[2]).convert("RGB")))
    shares = predictor.probabilities(image[None])
    (told,) = predict([pictures[2]], NAME, topk=10)
    assert dict(zip(predictor.classes, shares[0].tolist(), strict=True)) == pytest.approx(
        dict(zip(told.classes, told.probabilities, strict=True)))


@pytest.mark.parametrize("picture, status, says", [
    (b"", 422, "the picture can't be decoded (unknown format)"),
    (b"GIF89a", 422, "the picture can't be decoded"),
    (as_png(9000, 9000, mode="1"), 422, "9000x9000 pixels; 50,000,000 are taken at most"),
    (as_png(2001, 2), 422, "2001x2 pixels are 1000 times as long as wide"),
    (b"\0" * (MOST_BYTES + 1), 413, "a picture of more than 10 MB isn't read; make it smaller")],
    ids=["nothing", "cut-off", "bomb", "line", "long"])
def test_what_is_no_picture_or_too_large_a_one_is_refused(endpoint, picture, status, says):
    code, told, _ = refused(f"{endpoint}/api/predict/wrn-hub/{NAME}", picture)
    assert code == status and says in told


def test_no_other_model_and_no_page_from_elsewhere_is_answered(endpoint):
    assert refused(f"{endpoint}/api/predict/wrn-hub/dogs", b"")[0] == 404
    code, told, _ = refused(f"{endpoint}/api/predict/wrn-hub/{NAME}", b"", **{"Sec-Fetch-Site": "cross-site"})
    assert code == 403 and "only pages of this server" in told


def test_a_damaged_model_says_so_without_a_path_of_the_server(tmp_path):
    make_model(tmp_path / "broken")
    store = FolderStore(tmp_path, "my-lab")
    with served(application(store, TryIt(store))) as address:
        code, told, _ = refused(f"{address}/api/predict/my-lab/broken", as_png(8, 8))
    assert code == 422 and "my-lab/broken" in told and str(tmp_path) not in told


def test_pictures_wait_their_turn_and_more_than_some_are_told_to_come_again(gallery, pictures):
    may_load, loads = threading.Event(), []

    class Slow(TryIt):
        def _load(self, folder, commit):
            loads.append(folder)
            may_load.wait(20)
            return super()._load(folder, commit)

    store, picture = FolderStore(gallery), pictures[2].read_bytes()
    with served(application(store, try_it := Slow(store))) as address, ThreadPoolExecutor(MOST_WAITING + 1) as crowd:
        asked = f"{address}/api/predict/wrn-hub/{NAME}"
        answers = [crowd.submit(ask, asked, picture) for _ in range(MOST_WAITING + 1)]
        while try_it.waiting <= MOST_WAITING:
            threading.Event().wait(0.01)
        code, told, headers = refused(asked, picture)
        may_load.set()
        assert code == 503 and "ask again" in told and int(headers["Retry-After"]) > 0
        assert len({answer.result()["classes"][0] for answer in answers}) == 1
        assert try_it.waiting == 0 and len(loads) == 1  # it was loaded once for them all


def test_it_is_offered_only_where_it_is_wanted(gallery):
    with served(application(FolderStore(gallery))) as address:
        with urlopen(f"{address}/wrn-hub/{NAME}") as page:
            assert "connect-src" not in page.headers["Content-Security-Policy"] and b"try-it" not in page.read()
        assert refused(f"{address}/api/predict/wrn-hub/{NAME}", b"")[0] in (404, 405)


def test_a_page_may_do_what_trying_needs_and_no_more(endpoint, gallery):
    policy = "default-src 'none'; script-src 'self'; img-src 'self'"
    store = FolderStore(gallery)
    found = store.revision("models", f"wrn-hub/{NAME}")
    by_server = TryIt(store, in_browser=False).shown(found, 10**6)
    assert by_server.net is None and by_server.server == f"/api/predict/wrn-hub/{NAME}" and not by_server.why
    assert allowed(policy, by_server) == policy + "; connect-src 'self'"
    nowhere = TryIt(store, by_server=False, in_browser=False).shown(found, 10**6)
    assert "make try-in-browser" in nowhere.why and allowed(policy, nowhere) == allowed(policy, None) == policy
    large = TryIt(store, by_server=False).shown(found, 10**8)
    assert "up to 5 million parameters" in large.why
    with urlopen(f"{endpoint}/wrn-hub/{NAME}") as page:
        policy = page.headers["Content-Security-Policy"]
        assert "connect-src 'self'" in policy and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    with urlopen(endpoint) as page:
        assert "connect-src" not in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("mode, says", [
    ("center", "The shorter side is brought to 256 pixels (bilinear), and the 224x224 in the middle are seen."),
    ("squash", "Both sides are brought to 256 pixels (bilinear), and the 224x224 in the middle are seen."),
    ("border", "The longer side is brought to 256 pixels (bilinear), and what is missing beside it is filled.")])
def test_what_is_seen_of_a_picture_is_said(mode, says):
    config = {"input_size": (3, 224, 224), "crop_pct": 0.875, "crop_mode": mode, "interpolation": "bilinear"}
    assert seen(config) == says


def test_more_pixels_than_are_allowed_are_not_decoded():
    from wrn_hub.data.encoded import decode

    assert decode(as_png(10, 10), "it", most_pixels=100).shape == (10, 10, 3)
    with pytest.raises(UserError, match="10x10 pixels; 99 are taken at most"):
        decode(as_png(10, 10), "it", most_pixels=99)
