"""Publish one's own training: the model, the run's settings and curve, and a card."""
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi

from ..cards.user_card import shareable_settings, user_card
from ..errors import UserError
from .repository import check_access, commit, compare, verify
from .store import CARD, repository_files

__all__ = ["check_push", "push"]


def check_push(repo_id: str) -> None:
    """Find before a training what would make its publication fail after it.

    Raises:
        UserError: "organisation/name" is none, there is no token, or it may not write there.
    """
    check_access(HfApi(), repo_id)


def push(run: str | Path, repo_id: str) -> str:
    """Publish a finished training, and check what the Hub gives back.

    Other files that the repository holds stay; a card is replaced, since it states the accuracy of other weights.

    Args:
        run: Output folder of the training.
        repo_id: "organisation/name"; made, public, where it doesn't exist.

    Returns:
        "organisation/name@commit".

    Raises:
        UserError: the training isn't finished, or it couldn't be published; what was trained is in the folder still.
    """
    api, run = HfApi(), Path(run)
    check_access(api, repo_id)
    with TemporaryDirectory() as place:
        folder = Path(place) / "repository"
        card = user_card(run, repo_id)
        shutil.copytree(run / "model", folder)
        (folder / CARD).write_text(card)
        settings = shareable_settings(json.loads((run / "args.json").read_text()))
        (folder / "args.json").write_text(json.dumps(settings, indent=2) + "\n")
        shutil.copy(run / "metrics.csv", folder)
        files = repository_files(folder)
        try:
            done = commit(api, compare(api, repo_id, files, delete=False), "Training with wrn_hub")
            verify(api, repo_id, done, files, folder, Path(place) / "cache")
        except UserError as error:
            raise UserError(
                f"{error}. The model is whole in {run / 'model'}; to publish it again add --output {run} --resume to "
                "the same command") from error
    return f"{repo_id}@{done}"
