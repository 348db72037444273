"""``--push-to-hub`` of train and finetune: not a setting of the training, but what is done with its result."""
import argparse
from collections.abc import Callable
from pathlib import Path

from .cli import is_main_process

__all__ = ["add_push_option", "push_from"]


def add_push_option(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument_group("publishing").add_argument(
        "--push-to-hub", metavar="ORG/NAME",
        help="publish the model with a card there afterwards; the token is HF_TOKEN's or that of hf auth login")


def push_from(parsed: argparse.Namespace) -> Callable[[Path], None]:
    """What to do with the folder of a finished training. Whether it will be possible is found now, not after it.

    Raises:
        UserError: there is no token that may write there.
    """
    if not parsed.push_to_hub:
        return lambda folder: None
    from ..hub.push import check_push, push

    check_push(parsed.push_to_hub)

    def publish(folder: Path) -> None:
        if is_main_process():
            print(f"published: {push(folder, parsed.push_to_hub)}")

    return publish
