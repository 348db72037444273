"""The card of a net that somebody trained or fine-tuned on their own: what the run's folder knows, and no more."""
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import EvalResult, ModelCardData

from ..errors import UserError, first_line
from ..facts import DATASETS
from ..files import read_csv, read_json
from ..training.options import PLACES
from .command import train_command
from .markdown import render
from .metadata import finetuned, front_matter
from .origin import base_model, changes, teaching
from .sample import SAMPLE

__all__ = ["shareable_settings", "user_card"]


def shareable_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run without where things lie on its machine: of a path only the last part is left."""

    def shared(value: Any) -> Any:
        if isinstance(value, list):
            return [shared(item) for item in value]
        path = value.removeprefix("local-dir:") if isinstance(value, str) else ""
        local = path.startswith(("/", "~", ".")) or path != value or Path(path).is_dir()
        return Path(path).name if path and local else value

    return {key: shared(value) for key, value in settings.items() if key not in PLACES}


def _hub_dataset(settings: dict[str, Any]) -> str | None:
    """Hub id of the dataset; None for a folder and the sample."""
    dataset = settings["dataset"]
    for name, facts in DATASETS.items():
        if dataset in (name, facts.hub_id):
            return facts.hub_id
    through_hub = dataset.count("/") == 1 and not settings["data_dir"]
    return dataset if through_hub and shareable_settings(settings)["dataset"] == dataset else None


def _start(settings: dict[str, Any], base: str | None) -> str:
    shown = shareable_settings(settings)["model"]
    if base:
        return f"fine-tuned from [{base}](https://huggingface.co/{base})"
    if settings["pretrained"] or ":" in settings["model"] or Path(settings["model"]).is_dir():
        return f"fine-tuned from `{shown}`"
    return "trained from scratch"


def user_card(run: Path, repo_id: str) -> str:
    """The README.md of a run's model.

    Args:
        run: Output folder of a finished training.
        repo_id: "organisation/name", where the model is going to lie.

    Raises:
        UserError: the training isn't finished.
    """
    try:
        settings, config = read_json(run / "args.json"), read_json(run / "model" / "config.json")
        last = read_csv(run / "metrics.csv")[-1]
        held_out = "held_out_accuracy" in last
        accuracy = float(last["held_out_accuracy" if held_out else "test_accuracy"])
        if not 0 <= accuracy <= 1:
            raise ValueError(f"its last accuracy is {accuracy}")
    except (UserError, IndexError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{run} holds no finished training ({first_line(error)}); finish it with --resume") from None
    try:
        return _card(repo_id, settings, config, accuracy, held_out)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run}: args.json or config.json is not as training writes it ({first_line(error)})") from None


def _card(repo_id: str, settings: dict[str, Any], config: dict[str, Any], accuracy: float, held_out: bool) -> str:
    shown = shareable_settings(settings)
    dataset, arch, cfg = shown["dataset"], config["architecture"], config["pretrained_cfg"]
    on_hub, base = _hub_dataset(settings), base_model(settings)
    ours = arch in [*timm.list_models(module="wide_resnet"), *timm.list_models(module="wide_resnet_in1k")]
    classes = config.get("label_names") or cfg.get("label_names") or []
    name = repo_id.partition("/")[2]
    where = (
        f"{settings['held_out']:,} images held out of the training split" if held_out
        else f"{settings['test_images']:,} images drawn from the test split" if settings.get("test_images")
        else "the test split")
    metadata = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", *(["wide-resnet"] if ours else [])],
        datasets=[on_hub] if on_hub else None,
        **finetuned(base),
        model_name=name,
        eval_results=[EvalResult(
            task_type="image-classification", task_name="Image Classification", dataset_type=on_hub or dataset,
            dataset_name=dataset, dataset_split="train" if held_out else "test", metric_type="accuracy",
            metric_name=f"top-1 accuracy on {where}", metric_value=round(100 * accuracy, 2))])
    return render(
        "user_card",
        head=front_matter(metadata),
        name=name, arch=arch, repo_id=repo_id, sample=SAMPLE, ours=ours, start=_start(settings, base),
        teaching=teaching(settings), changes=changes(settings),
        dataset=f"`{on_hub}`" if on_hub else f"the dataset `{dataset}`",
        accuracy=accuracy, where=where,
        classes=", ".join(f"{i} {c}" for i, c in enumerate(classes)) + "." if classes
        else f"{config['num_classes']}, unnamed.",
        size=shown["image_size"], mean=tuple(cfg["mean"]), std=tuple(cfg["std"]),
        epochs=settings["epochs"], version=settings["versions"]["wrn_hub"], hardware=settings["hardware"],
        own=" and ".join(f"{what} `{settings[what]}`" for what in ("module", "loss") if settings.get(what)),
        train_command=train_command({**shown, "data_dir": settings["data_dir"]}))
