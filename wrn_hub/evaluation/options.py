"""What a measurement can be told, each setting once."""
from dataclasses import dataclass, fields

from ..errors import UserError
from ..options import option

__all__ = ["EvaluateOptions"]


@dataclass(frozen=True)
class EvaluateOptions:
    """Settings of one measurement; the defaults are those of ``scripts/evaluate.py``.

    Raises:
        UserError: a value outside what is allowed.
    """

    model: str = option("wrn_16_2.cifar10", "timm model, Hub id, or folder of a model")
    dataset: str = option("cifar10", "name, Hub id or folder")
    data_dir: str | None = option(None, "folder that holds the dataset")
    split: str = option("test", "which images", ("test", "train"))
    image_size: int | None = option(None, "side in pixels; the model's own by default")
    precision: str = option("fp32", "what is computed in", ("fp32", "bf16", "fp16"))
    batch_size: int = option(250, "images a forward pass")
    corruption_images: int = option(
        2000, "measure on 50 corrupted copies of each of so many images, the first, and on all mirrored; 0: neither")
    seed: int = option(0, "of the corruptions")
    match_classes: str = option(
        "name", "whose logits are whose: by the names of the classes, where net and dataset have them, or in the order "
        "that both have them in", ("name", "order"))
    output: str | None = option(
        None, "folder to write results.json, logits.safetensors and worst.safetensors to")
    image_column: str | None = option(None, "column of the images; by default the one of type Image")
    label_column: str | None = option(None, "column of the labels; by default that of type ClassLabel, or called label")

    def __post_init__(self) -> None:
        for name, least in {"batch_size": 1, "corruption_images": 0, "image_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if value is not None and not least <= value < 2**32:
                raise UserError(f"{name} = {value}: allowed is {least} to {2**32 - 1}")
        for item in fields(self):
            choices = item.metadata["choices"]
            if choices and getattr(self, item.name) not in choices:
                raise UserError(f"{item.name} = {getattr(self, item.name)!r}: allowed are {', '.join(choices)}")
