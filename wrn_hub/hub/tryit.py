"""Try a model on a picture of one's own: by this server, or in the browser, which is given the net as ONNX.

Nothing here imports torch before the first picture comes. What answers is the class that ``wrn-hub predict`` uses, so
both say the same of a file.
"""
import asyncio
import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..errors import UserError
from ..files import cache_folder
from ..version import __version__
from .routes import error
from .store import CONFIG, Revision, Store

if TYPE_CHECKING:
    import torch

    from ..evaluation.predict import Predictor

__all__ = ["Busy", "Shown", "TryIt", "allowed"]

T = TypeVar("T")

MOST_BYTES = 10_000_000  # of a picture's file
MOST_PIXELS = 50_000_000  # of it decoded, 150 MB
MOST_WAITING = 4  # pictures beside the one that is looked at
IN_BROWSER = 5_000_000  # parameters of a net that a browser is given: 20 MB, and a tenth of a second an image
LIKELIEST = 5  # classes that are told
SAMPLE = "sample.png"  # of a repository, to begin with
ORT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"  # what make try-in-browser fetches


class Busy(Exception):
    """More wait than are let wait."""


@dataclass(frozen=True)
class Shown:
    """What a page needs to let a model be tried; addresses from the server's root, None for what isn't offered.

    Attributes:
        server: Where a picture is sent to.
        net: Where the browser finds ``net.onnx`` and ``facts.json``, the one's address and the other's.
        ort: Of onnxruntime-web and of its WebAssembly.
        sample: Of a picture to begin with.
        why: What keeps it from being tried, in a sentence; empty where nothing does.
    """

    server: str | None
    net: tuple[str, str] | None
    ort: tuple[str, str] | None
    sample: str | None
    why: str = ""


def allowed(policy: str, shown: Shown | None) -> str:
    """A page's Content-Security-Policy with what trying needs: to ask this server, and to run WebAssembly."""
    if shown is None or shown.why:
        return policy
    if shown.net:
        policy = policy.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'")
    return f"{policy}; connect-src 'self'"


def _browser_part() -> bool:
    """Whether onnxruntime-web was fetched, and what makes ONNX files of nets is installed."""
    vendor = files("wrn_hub.hub") / "static" / "vendor"
    return all((vendor / name).is_file() for name in (ORT, WASM)) and all(
        find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def seen(config: dict[str, Any]) -> str:
    """What of a picture a net sees, in a sentence; ``config`` in timm's words."""
    size = config["input_size"][-1]
    scale = math.floor(size / config["crop_pct"])
    sides = {"squash": "both sides are", "border": "the longer side is"}.get(config["crop_mode"], "the shorter side is")
    rest = "what is missing beside it is filled" if config["crop_mode"] == "border" else (
        f"the {size}x{size} in the middle are seen")
    return f"{sides[0].upper()}{sides[1:]} brought to {scale} pixels ({config['interpolation']}), and {rest}."


def changed(image: "torch.Tensor", shift: int) -> "dict[str, torch.Tensor]":
    """An image (C, H, W) as it is, mirrored, and moved by ``shift`` pixels four ways, where its edge is repeated."""
    from torch.nn import functional

    height, width = image.shape[-2:]
    wide = functional.pad(image[None], (shift,) * 4, mode="replicate")[0]

    def moved(right: int, down: int) -> "torch.Tensor":
        return wide[:, shift - down : shift - down + height, shift - right : shift - right + width]

    return {"same": image, "mirrored": image.flip(-1), "left": moved(-shift, 0), "right": moved(shift, 0),
            "up": moved(0, -shift), "down": moved(0, shift)}


def _png(image: "torch.Tensor", config: dict[str, Any]) -> str:
    """A prepared image (3, H, W) as people see it: a PNG in base64."""
    import torch
    from PIL import Image

    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    pixels = ((image * std + mean) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def answer(predictor: "Predictor", picture: bytes) -> dict[str, Any]:
    """What a net says of a picture, and of it changed; the page's script makes the same of a net in the browser.

    Returns:
        ``classes`` and ``probabilities`` (0 to 1), likeliest first, ``input``, what the net saw, a PNG in base64,
        ``seen``, a sentence on that, ``size`` in pixels, ``mirrored`` and ``shifted``, by direction, with the likeliest
        class of each, and ``pixels`` of the shift.

    Raises:
        UserError: the picture can't be read, or the net takes no pictures in colour, or its answers aren't finite.
    """
    import torch

    from ..data.encoded import decode

    channels, _, size = predictor.config["input_size"]
    if channels != 3:
        raise UserError(f"the net takes {channels} channels; pictures have 3")
    image = predictor.prepare(decode(picture, "the picture", most_pixels=MOST_PIXELS))
    shift = max(size // 8, 1)
    images = changed(image, shift)
    best = predictor.probabilities(torch.stack(list(images.values()))).cpu().topk(
        min(LIKELIEST, len(predictor.classes)))
    told = {
        key: {"classes": [predictor.classes[i] for i in index], "probabilities": shares}
        for key, index, shares in zip(images, best.indices.tolist(), best.values.tolist(), strict=True)}
    likeliest = {key: {"class": said["classes"][0], "probability": said["probabilities"][0]}
                 for key, said in told.items()}
    return {
        **told["same"], "input": _png(image, predictor.config), "seen": seen(predictor.config), "size": size,
        "pixels": shift, "mirrored": likeliest["mirrored"],
        "shifted": {key: likeliest[key] for key in ("left", "right", "up", "down")}}


class TryIt:
    """Lets the models of a store be tried, one picture at a time.

    Args:
        store: Whose models.
        by_server: Whether this server looks at pictures.
        in_browser: Whether browsers do, where they can: the net is small and what runs it was fetched.

    Attributes:
        waiting: Pictures that are looked at or wait for it.
    """

    def __init__(self, store: Store, by_server: bool = True, in_browser: bool = True) -> None:
        self._store, self._by_server, self.waiting = store, by_server, 0
        self._one_at_a_time = asyncio.Lock()
        self._predictor = lru_cache(maxsize=2)(self._load)
        self._browser_part = in_browser and _browser_part()

    def shown(self, found: Revision, parameters: int | None) -> Shown:
        """What the page of a model with so many parameters offers."""
        small = parameters is not None and parameters <= IN_BROWSER
        net = f"/-/net/{found.repo_id}/{found.commit}/" if small and self._browser_part else None
        server = f"/api/predict/{found.repo_id}" if self._by_server else None
        why = "" if net or server else (
            "Here it can't be tried: the part that runs nets in the browser is not in this copy; make try-in-browser "
            "fetches it, before the pages are exported." if small else
            f"Here it can't be tried: a browser is given nets of up to {IN_BROWSER / 1e6:.0f} million parameters. "
            "The server of wrn-hub hub lets it be tried.")
        return Shown(
            server, (f"{net}net.onnx", f"{net}facts.json") if net else None,
            (f"/-/static/vendor/{ORT}", f"/-/static/vendor/{WASM}") if net else None,
            f"/{found.repo_id}/resolve/main/{SAMPLE}" if SAMPLE in found.files else None, why)

    def _load(self, folder: Path, commit: str) -> "Predictor":
        from ..evaluation.predict import Predictor

        return Predictor(f"local-dir:{folder}")

    async def _in_turn(self, found: Revision, work: Callable[[Path], T]) -> T:
        """Do what takes long, when it is its turn.

        Raises:
            Busy: too many wait already.
            UserError: that of the work, without a path of this machine.
        """
        if self.waiting > MOST_WAITING:
            raise Busy
        folder = found.file(CONFIG).content.parent
        self.waiting += 1
        try:
            async with self._one_at_a_time:
                return await run_in_threadpool(work, folder)
        except UserError as problem:
            raise UserError(str(problem).replace(str(folder), found.repo_id)) from problem
        finally:
            self.waiting -= 1

    def _at(self, request: Request) -> Revision:
        asked = request.path_params
        return self._store.revision("models", f"{asked['org']}/{asked['name']}", asked.get("revision", "main"))

    async def _answered(self, request: Request, work: Callable[[Revision, Path], Response]) -> Response:
        found = await run_in_threadpool(self._at, request)
        try:
            return await self._in_turn(found, lambda folder: work(found, folder))
        except Busy:
            return error(503, "others are being answered; ask again in a moment", **{"Retry-After": "2"})
        except UserError as problem:
            return error(422, str(problem))

    async def predict(self, request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return error(403, "only pages of this server may ask")  # else any page could keep this machine busy
        picture = bytearray()
        try:
            async for part in request.stream():
                picture += part
                if len(picture) > MOST_BYTES:
                    return error(413, f"a picture of more than {MOST_BYTES / 1e6:.0f} MB isn't read; make it smaller")
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        return await self._answered(request, lambda found, folder: JSONResponse(
            answer(self._predictor(folder, found.commit), bytes(picture)), headers={"Cache-Control": "no-store"}))

    async def facts(self, request: Request) -> Response:
        def told(found: Revision, folder: Path) -> Response:
            predictor = self._predictor(folder, found.commit)
            config = predictor.config
            return JSONResponse({
                "classes": predictor.classes, "seen": seen(config), "size": config["input_size"][-1],
                **{key: config[key] for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode")}})

        return await self._answered(request, told)

    async def net(self, request: Request) -> Response:
        def made(found: Revision, folder: Path) -> Response:
            from ..evaluation.exported import export_source

            path = cache_folder("onnx") / f"{found.commit}.{__version__}.onnx"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                export_source(f"local-dir:{folder}", path)
            return FileResponse(path, headers={"Cache-Control": "public, max-age=31536000, immutable"})

        return await self._answered(request, made)

    def routes(self) -> list[BaseRoute]:
        """Starlette's routes."""
        by_server = [Route("/api/predict/{org}/{name}", self.predict, methods=["POST"])] if self._by_server else []
        in_browser = [
            Route("/-/net/{org}/{name}/{revision}/facts.json", self.facts),
            Route("/-/net/{org}/{name}/{revision}/net.onnx", self.net)] if self._browser_part else []
        return [*by_server, *in_browser]
