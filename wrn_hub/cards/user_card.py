"""The card of a net that somebody trained or fine-tuned on their own: what the run's folder knows, and no more."""
import csv
import json
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import EvalResult, ModelCardData
from timm.models import get_pretrained_cfg

from ..errors import UserError
from ..facts import DATASETS
from .command import train_command

__all__ = ["shareable_settings", "user_card"]

_PRIVATE = ("data_dir", "output", "resume")


def shareable_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run without where things lie on its machine: of a path only the last part is left."""

    def shared(value: Any) -> Any:
        path = value.removeprefix("local-dir:") if isinstance(value, str) else ""
        local = path.startswith(("/", "~", ".")) or path != value or Path(path).is_dir()
        return Path(path).name if path and local else value

    return {key: shared(value) for key, value in settings.items() if key not in _PRIVATE}


def _hub_dataset(settings: dict[str, Any]) -> str | None:
    """Hub id of the dataset; None for a folder and the sample."""
    dataset = settings["dataset"]
    for name, facts in DATASETS.items():
        if dataset in (name, facts.hub_id):
            return facts.hub_id
    through_hub = dataset.count("/") == 1 and not settings["data_dir"]
    return dataset if through_hub and shareable_settings(settings)["dataset"] == dataset else None


def _base_model(settings: dict[str, Any]) -> str | None:
    """Hub id of the weights that the training started from, as far as they are on the Hub."""
    model = settings["model"]
    if model.startswith("hf-hub:"):
        return model.removeprefix("hf-hub:").partition("@")[0]
    if not settings["pretrained"] or ":" in model or not timm.is_model(model):
        return None
    cfg = get_pretrained_cfg(model)
    hub_id = (cfg.hf_hub_id or "").partition("@")[0]
    return f"{hub_id}{cfg.architecture}.{cfg.tag}" if hub_id == "timm/" else hub_id or None


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
        settings = json.loads((run / "args.json").read_text())
        config = json.loads((run / "model" / "config.json").read_text())
        with open(run / "metrics.csv", newline="") as file:
            last = list(csv.DictReader(file))[-1]
    except (OSError, json.JSONDecodeError, IndexError) as error:
        raise UserError(f"{run} holds no finished training ({error}); finish it with --resume") from None
    held_out = "held_out_accuracy" in last
    accuracy = float(last["held_out_accuracy" if held_out else "test_accuracy"])
    shown = shareable_settings(settings)
    dataset, arch, cfg = shown["dataset"], config["architecture"], config["pretrained_cfg"]
    on_hub, base = _hub_dataset(settings), _base_model(settings)
    ours = arch in [*timm.list_models(module="wide_resnet"), *timm.list_models(module="wide_resnet_in1k")]
    classes = config.get("label_names") or cfg.get("label_names") or []
    name = repo_id.partition("/")[2]
    where = (
        f"{settings['held_out']:,} images held out of the training split" if held_out else "the test split")
    metadata = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", *(["wide-resnet"] if ours else [])],
        datasets=[on_hub] if on_hub else None,
        base_model=base,
        model_name=name,
        eval_results=[EvalResult(
            task_type="image-classification", task_name="Image Classification", dataset_type=on_hub or dataset,
            dataset_name=dataset, dataset_split="train" if held_out else "test", metric_type="accuracy",
            metric_name=f"top-1 accuracy on {where}", metric_value=round(100 * accuracy, 2))])
    lines = [
        f"---\n{metadata.to_yaml()}\n---\n",
        f"# {name}",
        "",
        f"`{arch}` {_start(settings, base)} on {f'`{on_hub}`' if on_hub else f'the dataset `{dataset}`'}: "
        f"{100 * accuracy:.2f} % top-1 accuracy on {where}, after the last epoch.",
        "",
        "```python",
        "import timm",
        *(['import wrn_hub  # registers the architecture; without it timm answers "Unknown model"'] if ours else []),
        "",
        f'model = timm.create_model("hf-hub:{repo_id}", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))",
        "```",
        "",
        *(["wrn_hub is installed from a clone with `pip install .`", ""] if ours else []),
        "## Classes",
        "",
        ", ".join(f"{i} {c}" for i, c in enumerate(classes)) + "." if classes else f"{config['num_classes']}, unnamed.",
        "",
        "## Preprocessing",
        "",
        f"RGB, {shown['image_size']}x{shown['image_size']} pixels, divided by 255, less the mean {tuple(cfg['mean'])}, "
        f"over the standard deviation {tuple(cfg['std'])}, per channel.",
        "",
        "## Training",
        "",
        f"{settings['epochs']} epoch{'s' * (settings['epochs'] > 1)} with wrn_hub {settings['versions']['wrn_hub']} "
        f"on {settings['hardware']}; every setting is in args.json, every epoch in metrics.csv.",
        "",
        "```bash",
        train_command({**shown, "data_dir": settings["data_dir"]}),
        "```",
    ]
    return "\n".join(lines) + "\n"
