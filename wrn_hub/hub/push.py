"""Publish one's own training: the model, the run's settings and curve, and a card."""
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi

from ..cards.head import parse_head, split_head
from ..cards.sample import SAMPLE, sample_of
from ..cards.user_card import shareable_settings, user_card
from ..errors import UserError, first_line
from ..files import read_json, write_whole
from .check import check_model
from .repository import check_access, commit, compare, verify
from .store import CARD, CONFIG, WEIGHTS, repository_files

__all__ = ["check_push", "push"]


def check_push(repo_id: str) -> None:
    """Find before a training what would make its publication fail after it.

    Raises:
        UserError: "organisation/name" is none, there is no token, or it may not write there.
    """
    check_access(HfApi(), repo_id)


def push(run: str | Path, repo_id: str) -> str:
    """Publish a finished training, and check what the Hub gives back.

    Sent are the model, its card with a sample image, the settings and the curve, and nothing else that lies in the
    folder. Other files that the repository holds stay; a card is replaced, since it states the accuracy of other
    weights.

    Args:
        run: Output folder of the training.
        repo_id: "organisation/name"; made, public, where it doesn't exist.

    Returns:
        "organisation/name@commit".

    Raises:
        UserError: the training isn't finished or its folder is damaged, or it couldn't be published; what was trained
            is in the folder still.
    """
    api, run = HfApi(), Path(run)
    check_access(api, repo_id)
    with TemporaryDirectory() as place:
        folder = Path(place) / "repository"
        _gather(run, repo_id, folder)
        check_model(folder)
        files = repository_files(folder)
        try:
            done = commit(api, compare(api, repo_id, files, delete=False), "Training with wrn_hub")
            verify(api, repo_id, done, files, folder, Path(place) / "cache")
        except UserError as error:
            raise UserError(
                f"{error}. The model is whole in {run / 'model'}; to publish it again add --output {run} --resume to "
                "the same command") from error
    return f"{repo_id}@{done}"


def _gather(run: Path, repo_id: str, folder: Path) -> None:
    """Make the folder of what is sent. A link that leads out of the run's folder could bring any file of the machine:
    none is followed."""
    for name in (f"model/{CONFIG}", f"model/{WEIGHTS}", "args.json", "metrics.csv"):
        if not (run / name).is_file():
            raise UserError(f"{run} holds no finished training ({name} is missing); finish it with --resume")
        if not (run / name).resolve().is_relative_to(run.resolve()):
            raise UserError(f"{run / name} is a link out of the folder, which isn't followed: put the file there")
    settings = read_json(run / "args.json")
    try:
        card = user_card(run, repo_id)
        shared = shareable_settings(settings)
    except UserError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run}: args.json, metrics.csv or model/{CONFIG} is damaged ({type(error).__name__}: {first_line(error)})"
        ) from None
    if not isinstance(parse_head(split_head(card)[0] or ""), dict):
        raise UserError(f"{run}: its card would begin with no metadata; look at args.json and model/{CONFIG}")
    folder.mkdir()
    for name in (f"model/{CONFIG}", f"model/{WEIGHTS}", "metrics.csv"):
        shutil.copyfile(run / name, folder / Path(name).name)
    shutil.copyfile(sample_of(), folder / SAMPLE)
    write_whole(folder / CARD, card)
    write_whole(folder / "args.json", json.dumps(shared, indent=2) + "\n")
