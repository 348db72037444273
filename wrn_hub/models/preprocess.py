"""What is done to an image before a net sees it, as its weights' tag says, or whoever overrides that."""
from collections.abc import Mapping
from typing import Any

from timm.data import resolve_data_config

from ..errors import UserError
from ..options import CROP_MODES, INTERPOLATIONS

__all__ = ["TURNED", "data_config", "sees_upright"]

TURNED = "trained on images turned upright as their EXIF orientation says"  # a note in the cfg of weights made here


def data_config(
    cfg: Mapping[str, Any], image_size: int | None = None, crop_pct: float | None = None, crop_mode: str | None = None,
    interpolation: str | None = None,
) -> dict[str, Any]:
    """How images are brought to a net that is measured or used, in timm's words: at the test size, where there is one.

    Args:
        cfg: The net's ``pretrained_cfg``.
        image_size: Side in pixels; the cfg's own where None, as the three below.
        crop_pct: Side of the part that is seen, over the side that the image is brought to.
        crop_mode: Where that part lies, and how the image is brought there: one of ``CROP_MODES``.
        interpolation: One of ``INTERPOLATIONS``.

    Returns:
        What timm.data.create_transform takes: input_size (channels, height, width), interpolation, mean, std, crop_pct,
        crop_mode.

    Raises:
        UserError: a value outside what is allowed.
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"image size {image_size}: allowed is 1 or more")
    if crop_pct is not None and not 0 < crop_pct <= 1:
        raise UserError(f"crop_pct = {crop_pct}: allowed is above 0, up to 1 for the whole image")
    for name, value, allowed in (
            ("crop_mode", crop_mode, CROP_MODES), ("interpolation", interpolation, INTERPOLATIONS)):
        if value is not None and value not in allowed:
            raise UserError(f"{name} = {value!r}: allowed are {', '.join(allowed)}")
    given: dict[str, Any] = {"crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
    if image_size is not None:
        given["input_size"] = (*(cfg.get("input_size") or (3,))[:1], image_size, image_size)
    return resolve_data_config(given, pretrained_cfg=dict(cfg) or {"input_size": (3, 32, 32)}, use_test_size=True)


def sees_upright(cfg: Mapping[str, Any]) -> bool:
    """Whether a net is measured on images in files turned upright, as their EXIF orientation says, or as they lie.

    Images are turned wherever this package opens them: in training, in what a training measures, in ``predict``. The
    one exception is what :mod:`wrn_hub.evaluation` measures, from files, of weights that weren't trained here: those
    who made such weights, and timm's ``validate.py``, take images as they lie, and every logit is to be theirs. So
    that weights trained here are told from others wherever they go, the trainer leaves the note ``TURNED`` in their
    ``pretrained_cfg``.

    Args:
        cfg: The net's ``pretrained_cfg``.
    """
    notes = cfg.get("notes")
    return isinstance(notes, list | tuple) and TURNED in notes
