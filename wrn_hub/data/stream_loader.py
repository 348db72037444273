"""Batches of a dataset that is streamed, made by the same workers and with the same chance as those from files.

The process reads its own stream, and hands the encoded images to its workers; so how many workers there are changes
nothing. Which images come together depends on (seed, epoch, number of processes). To begin within an epoch, the images
before that are read again, and not decoded.
"""
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch

from ..errors import UserError
from .file_loader import FileTrainLoader

__all__ = ["StreamTrainLoader"]

T = TypeVar("T")

_AHEAD = 2  # batches that are read before a worker is free for them
_log = logging.getLogger(__name__)


def _ahead(made: Iterator[T]) -> Iterator[T]:
    """The same, made by a thread some time before they are asked for."""
    thread = ThreadPoolExecutor(1)
    waiting = deque(thread.submit(next, made, None) for _ in range(_AHEAD))
    try:
        while (found := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, made, None))
            yield found
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class StreamTrainLoader(FileTrainLoader):
    """Augmented batches of one process, from a :class:`~wrn_hub.data.stream.StreamDataset`; see
    :class:`~wrn_hub.data.file_loader.FileTrainLoader`.

    An epoch has as many steps as the number of images fills. Where processes have files of their own, one whose files
    hold less than its share of the images goes through the first of them again, and logs it; of one that has more the
    last wait for another epoch's order.
    """

    def _shares(
        self, epoch: int, generator: torch.Generator, first_step: int
    ) -> Iterator[tuple[list[Any], torch.Tensor]]:
        return _ahead(self._read(int(torch.randint(2**31, (), generator=generator)), first_step))

    def _read(self, seed: int, first_step: int) -> Iterator[tuple[list[Any], torch.Tensor]]:
        share, repeats = self.batch_size // self.world_size, self.augmentation.repeats
        apart = self._apart(share).tolist()
        images = self.dataset.passes(seed, self.rank, self.world_size)
        copies = (image for image in images for _ in range(repeats))
        if first_step:
            _log.info("reading the %d images again that come before step %d", first_step * share, first_step + 1)
        try:
            for _ in islice(copies, first_step * share):
                pass
            for _ in range(first_step, len(self)):
                batch = list(islice(copies, share))
                yield [batch[place][0] for place in apart], torch.tensor([batch[place][1] for place in apart])
        except UserError as error:  # comes out in its turn, and ends the workers as one of an image does
            yield [error] * share, torch.zeros(share, dtype=torch.long)
