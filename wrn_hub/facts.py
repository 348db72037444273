"""What is known once: of each dataset where it lies, its statistics and class names; and this project's own address."""
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import UserError

__all__ = [
    "DATASETS", "DEFAULT_TAG", "ISSUES", "KNOWN", "ORGANISATION", "REPOSITORY", "DatasetFacts", "check_mean_std",
    "mean_std"]

# where the code lies, where to ask about it, and under whose name the weights are on the Hub
REPOSITORY = "https://github.com/wrn-hub/wrn_hub"
ISSUES = f"{REPOSITORY}/issues"
ORGANISATION = "wrn-hub"


@dataclass(frozen=True)
class DatasetFacts:
    """Facts of one image-classification dataset of RGB images.

    ``mean`` and ``std`` are per channel over every pixel of the training split, in units of 1 (pixel / 255).
    ``classes`` are in the order of the labels, none where timm knows them (see :mod:`wrn_hub.data.imagenet`).
    """

    title: str
    hub_id: str
    config: str
    image_column: str
    label_column: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[str, ...]
    flip: bool = True  # a mirrored digit is another digit, or none
    source: str = ""
    misspelled: tuple[tuple[str, str], ...] = ()  # what copies on the Hub call a class, and what it is called here
    in_folders: bool = False  # whether copies have a folder of images a class
    test_unlabelled: bool = False  # whether the Hub's test split is a competition's, whose labels are all -1


# the datasets of 32x32 pixels that every net for small images has a tag for
DATASETS = {
    "cifar10": DatasetFacts(
        title="CIFAR-10", hub_id="uoft-cs/cifar10", config="plain_text", image_column="img", label_column="label",
        mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    ),
    "cifar100": DatasetFacts(
        title="CIFAR-100", hub_id="uoft-cs/cifar100", config="cifar100", image_column="img", label_column="fine_label",
        mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762),
        classes=(
            "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
            "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
            "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
            "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
            "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
            "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
            "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
            "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
            "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
            "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
            "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
            "worm",
        ),
        misspelled=(("cra", "crab"),),
        source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    ),
    "svhn": DatasetFacts(
        title="SVHN", hub_id="ufldl-stanford/svhn", config="cropped_digits", image_column="image", label_column="label",
        mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970),
        classes=tuple("0123456789"), flip=False,
        source="Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011",
    ),
}

# those that no net of this package has weights of
KNOWN = {
    **DATASETS,
    "imagenet-1k": DatasetFacts(
        title="ImageNet-1k", hub_id="ILSVRC/imagenet-1k", config="default", image_column="image", label_column="label",
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), classes=(), in_folders=True, test_unlabelled=True,
        source="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 2015",
    ),
}
KNOWN["imagenet-1k-wds"] = replace(
    KNOWN["imagenet-1k"], hub_id="timm/imagenet-1k-wds", image_column="jpg", label_column="cls", test_unlabelled=False)

DEFAULT_TAG = next(iter(DATASETS))  # of the weights that a name without a tag stands for


def check_mean_std(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Refuse what can't be a mean and a standard deviation per channel in units of 1 (pixel / 255).

    Args:
        mean: Three numbers from 0 to 1; None or none of them where it isn't given.
        std: Three numbers above 0, up to 1; the same.

    Raises:
        UserError: they are others; says so where they look like those of pixels from 0 to 255.
    """
    for name, values, least in (("mean", mean, "from 0 to 1"), ("std", std, "above 0, up to 1")):
        if values is None or len(values) == 0:
            continue
        if len(values) == 3 and all(0 <= value <= 1 and (value > 0 or name == "mean") for value in values):
            continue
        of_bytes = all(0 <= value <= 255 for value in values) and max(values) > 1
        advice = "; divide by 255, these look like those of pixels from 0 to 255" if of_bytes else ""
        raise UserError(
            f"{name} = {tuple(values)}: allowed are three numbers, {least}, in units of 1 (pixel / 255){advice}")


def mean_std(dataset: str, mean: Sequence[float], std: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """What images are normalised by: what is given, else what a known dataset has.

    Args:
        dataset: Its name.
        mean: Three numbers from 0 to 1, or none.
        std: Three numbers above 0, up to 1, or none.

    Raises:
        UserError: they aren't given, and the dataset isn't a known one.
    """
    facts = DATASETS.get(dataset)
    if facts is None and not (len(mean) and len(std)):
        raise UserError(
            f"dataset {dataset}: mean and std of its images aren't known; give them, such as those of the model's "
            "pretrained_cfg")
    return (mean if len(mean) else facts.mean, std if len(std) else facts.std)  # type: ignore[union-attr]
