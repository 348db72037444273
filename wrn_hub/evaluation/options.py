"""What a measurement can be told, each setting once."""
from dataclasses import dataclass, fields

from ..errors import UserError
from ..options import CROP_MODES, INTERPOLATIONS, LARGEST_SIDE, arguments, option

__all__ = ["CORRUPTED_IMAGES", "EvaluateOptions"]

CORRUPTED_IMAGES = 2000  # of those that are small


@dataclass(frozen=True)
class EvaluateOptions:
    """Settings of one measurement; the defaults are those of ``scripts/evaluate.py``.

    Raises:
        UserError: a value outside what is allowed.
    """

    model: str = option("wrn_16_2.cifar10", "timm model, Hub id, or folder of a model")
    dataset: str = option("cifar10", "name, Hub id or folder")
    data_dir: str | None = option(None, "folder that holds the dataset")
    split: str | None = option(
        None, "which images; test by default, and of what has no splits all", ("test", "train", "all"))
    image_size: int | None = option(None, "side in pixels; the model's own (test) size by default")
    crop_pct: float | None = option(
        None, "side of the part that is seen, over the side that the image is brought to; the model's own by default")
    crop_mode: str | None = option(None, "where that part lies, as timm calls it", CROP_MODES)
    interpolation: str | None = option(None, "of resized images; the model's own by default", INTERPOLATIONS)
    precision: str = option("fp32", "what is computed in", ("fp32", "bf16", "fp16"))
    batch_size: int = option(250, "images a forward pass")
    workers: int | None = option(
        None, "processes that decode large images, for each that computes; by default as many as it has cores")
    corruption_images: int | None = option(
        None, "measure on 50 corrupted copies of each of so many images, the first, and on all mirrored; 0: neither "
        f"(by default {CORRUPTED_IMAGES}, and 0 of large images)")
    attack: str = option(
        "none", "measure accuracy on images attacked by the net's own gradients: pgd, 20 steps, or fgsm, one",
        ("none", "pgd", "fgsm"))
    eps: float = option(8 / 255, "largest change of a pixel by the attack, of pixels divided by 255, e.g. 8/255")
    attack_images: int = option(1000, "images to attack, the first")
    seed: int = option(0, "of the corruptions, and of where attacks start")
    match_classes: str = option(
        "name", "whose logits are whose: by the names of the classes, where net and dataset have them, or in the order "
        "that both have them in", ("name", "order"))
    real_labels: str | None = option(
        None, "real.json: every right label of ImageNet's validation images (ReaL), to measure by as well")
    model_kwargs: tuple[str, ...] = option((), "arguments of the net, such as act_layer=silu", words=True)
    output: str | None = option(
        None, "folder to write results.json, logits.safetensors and worst.safetensors to")
    image_column: str | None = option(None, "column of the images; by default the one of type Image")
    label_column: str | None = option(None, "column of the labels; by default that of type ClassLabel, or called label")

    def __post_init__(self) -> None:
        most = 2**32 - 1
        for name, (least, limit) in {
                "batch_size": (1, most), "attack_images": (1, most), "corruption_images": (0, most), "seed": (0, most),
                "workers": (0, most), "image_size": (1, LARGEST_SIDE)}.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= limit:
                raise UserError(f"{name} = {value}: allowed is {least} to {limit}")
        arguments(self.model_kwargs)
        if not 0 < self.eps <= 1:
            raise UserError(f"eps = {self.eps}: allowed is above 0, up to 1, of pixels divided by 255, such as 8/255")
        for item in fields(self):
            choices = item.metadata["choices"]
            chosen = getattr(self, item.name)
            if choices and chosen not in choices and not (chosen is None and item.default is None):
                raise UserError(f"{item.name} = {chosen!r}: allowed are {', '.join(choices)}")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise UserError(f"crop_pct = {self.crop_pct}: allowed is above 0, up to 1 for the whole image")
