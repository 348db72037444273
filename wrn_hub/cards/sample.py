"""The picture that ships with every repository, so that the lines of its card can be tried as they stand."""
from pathlib import Path

from ..facts import DEFAULT_TAG

__all__ = ["SAMPLE", "SAMPLES", "sample_of"]

SAMPLE = "sample.png"  # what it is called in a repository
SAMPLES = Path(__file__).with_name("samples")  # drawn by scripts/maintain/draw_pictures.py


def sample_of(tag: str = DEFAULT_TAG) -> Path:
    """The drawing of something that nets of this dataset have a class for; of any other dataset a ship."""
    own = SAMPLES / f"{tag}.png"
    return own if own.is_file() else SAMPLES / f"{DEFAULT_TAG}.png"
