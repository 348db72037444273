"""The embedded sample: where it lies, and how it was drawn from CIFAR-100."""
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from ..official import read_pickle

__all__ = ["PER_CLASS", "SAMPLE", "draw_sample"]

SAMPLE = Path(__file__).parent
PER_CLASS = {"train": 20, "test": 10}  # images of each of the 100 fine classes, five of which make a superclass


def draw_sample(source: Path, target: Path, seed: int = 0) -> list[Path]:
    """Draw some images of every fine class of CIFAR-100 and write them with their superclasses as labels.

    The same seed draws the same images; the files are the same byte for byte where Pillow, its zlib and pyarrow are.

    Args:
        source: Folder of the official files, ``cifar-100-python``.
        target: Folder for ``train-00000-of-00001.parquet`` and ``test-00000-of-00001.parquet``.
        seed: Which images are drawn.

    Returns:
        The two files.

    Raises:
        UserError: an official file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    (classes,) = read_pickle(source / "meta", "coarse_label_names")
    features = {"img": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    schema = pa.schema(
        {"img": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": features}})})
    draw = np.random.RandomState(seed)  # its stream is frozen for good, unlike that of the newer generators
    files = []
    for split, per_class in PER_CLASS.items():
        images, fine, coarse = read_pickle(source / split, "data", "fine_labels", "coarse_labels")
        chosen = np.sort(np.concatenate(
            [draw.permutation(np.flatnonzero(fine == label))[:per_class] for label in np.unique(fine)]))
        cells = []
        for image in images[chosen]:
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, "PNG", optimize=True)
            cells.append({"bytes": encoded.getvalue(), "path": None})
        files.append(target / f"{split}-00000-of-00001.parquet")
        pq.write_table(pa.table([pa.array(cells, schema.field("img").type), coarse[chosen]], schema=schema), files[-1])
    return files
