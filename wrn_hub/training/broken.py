"""Images that can't be decoded: all are found before a training from files begins, and named in one go.

Each image is decoded once, by all workers of all processes together, as the training would decode it. What was found is
kept in the cache, so that the next training on the same files begins at once; those that were broken are looked at
again.
"""
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..data import FileDataset
from ..data.encoded import Images, decode
from ..errors import UserError
from ..files import cache_folder, read_json, write_whole

__all__ = ["find_broken", "without_broken"]

Broken = dict[int, str]  # place -> what is wrong with the image there
_NAMED = 5

_log = logging.getLogger(__name__)


class _Looked(Dataset):
    """What is wrong with images, empty where nothing is."""

    def __init__(self, images: Images, places: range | list[int]) -> None:
        self.images, self.places = images, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[int, str]:
        place = self.places[number]
        try:
            name, data = self.images[place]
            decode(data, name)
        except UserError as error:
            return place, str(error).removesuffix("; mend or remove it")
        return place, ""


def _broken_of(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [(place, wrong) for place, wrong in found if wrong]


def _look(images: Images, places: range | list[int], workers: int) -> list[tuple[int, str]]:
    """The broken images at some places; as many processes as there are look at a share each."""
    state = PartialState()
    mine = _Looked(images, places[state.process_index :: state.num_processes])
    loader = DataLoader(mine, 32, num_workers=min(workers, -(-len(mine) // 32)), collate_fn=_broken_of)
    bar = tqdm(loader, desc="looking at all images", unit="batch", mininterval=1.0, leave=False,
               disable=not state.is_main_process or None)
    found = [broken for batch in bar for broken in batch]
    return gather_object(found) if state.num_processes > 1 else found


def find_broken(dataset: FileDataset, workers: int) -> Broken:
    """Look at every image of a split, on all processes together.

    Args:
        dataset: The images.
        workers: Worker processes of each process.

    Returns:
        What is wrong, by the image's place, in their order; the same on every process.
    """
    key = hashlib.sha256(f"{dataset.fingerprint} {dataset.images[0][0]}".encode()).hexdigest()[:32]
    path = cache_folder("looked_at") / f"{key}.json"
    known: list[list[int] | None] = [None]
    if PartialState().is_main_process and path.is_file():
        try:
            known = [[int(place) for place in read_json(path, list)]]
        except (UserError, TypeError, ValueError):
            _log.info("%s is damaged; looking at all images again", path)
    broadcast_object_list(known)
    places = range(len(dataset)) if known[0] is None else [place for place in known[0] if place < len(dataset)]
    broken = dict(sorted(_look(dataset.images, places, workers)))
    if PartialState().is_main_process:
        try:
            write_whole(path, json.dumps(list(broken)))
        except OSError as error:
            _log.warning("all images will be looked at again next time: can't write to %s (%s)", path.parent, error)
    return broken


def without_broken(
    splits: Sequence[FileDataset | None], how: str, workers: int, folder: Path
) -> list[FileDataset | None]:
    """The splits, the first of them without the images that can't be decoded where ``how`` is "skip".

    All that can't be are listed in broken.txt in the run's folder.

    Args:
        splits: Images to train on, None where they can't be looked at before; then images to measure on, if they are
            others.
        how: "refuse" or "skip".
        workers: Worker processes of each process.
        folder: Of the run.

    Raises:
        UserError: some can't be decoded and may not be left out; images that are measured on never are.
    """
    found = [find_broken(split, workers) if split is not None else {} for split in splits]
    listed = [wrong for broken in found for wrong in broken.values()]
    if PartialState().is_main_process:
        (folder / "broken.txt").unlink(missing_ok=True)
        if listed:
            write_whole(folder / "broken.txt", "".join(f"{wrong}\n" for wrong in listed))
    if not listed:
        return list(splits)
    training, *measured = found
    total = sum(len(split) for split in splits if split is not None)
    where = f"all are in {folder / 'broken.txt'}"
    if how == "refuse" or any(measured):
        named = "; ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")
        advice = ", or go on without them: --broken skip" if how == "refuse" and not any(measured) else (
            "; those that are measured on are never left out")
        raise UserError(f"{len(listed)} of {total:,} images are broken: {named}; {where}; mend or remove them{advice}")
    looked_at, *others = splits
    assert looked_at is not None  # or some that are measured on were broken
    _log.warning("%d of %s training images are broken and left out; %s", len(listed), f"{len(looked_at):,}", where)
    return [looked_at.subset(np.setdiff1d(np.arange(len(looked_at)), list(training))), *others]
