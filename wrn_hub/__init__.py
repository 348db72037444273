"""Wide Residual Networks (arXiv:1605.07146) as first-class timm models.

Importing this package registers the models with timm and does nothing else::

    import timm, wrn_hub
    model = timm.create_model("wrn_16_2", pretrained=True)
"""
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .version import __version__ as __version__


@contextmanager
def _any_endpoint() -> Iterator[None]:
    """The Hub's client, which timm imports, fails at its import on an HF_ENDPOINT that can't be taken apart. With an
    empty one it fails where it is asked for something, and there :func:`wrn_hub.weights.endpoint_problem` says why."""
    given = os.environ.get("HF_ENDPOINT", "")
    try:
        _ = urlsplit(given).port
    except ValueError:
        os.environ["HF_ENDPOINT"] = ""
        try:
            yield
        finally:
            os.environ["HF_ENDPOINT"] = given
    else:
        yield


def _needs_no_net() -> bool:
    """Whether one of this package's own commands was started for what needs no net: --help, --version, the list of the
    commands, a slip of the pen, or the hub, which imports what it needs. torch and timm take seconds to import."""
    program, words = Path(sys.argv[0] if sys.argv else ""), sys.argv[1:]
    as_module = program.name == "-m" and ("-m", __name__) in pairwise(sys.orig_argv)  # -m wrn_hub, so far
    if not as_module and program.name not in ("wrn-hub", "wrn-hub.exe"):
        if program.resolve().parent != Path(__file__).resolve().parents[1] / "scripts":
            return False
        words = [program.stem, *words]
    from .commands import COMMANDS

    return not {"-h", "--help"}.isdisjoint(words) or {*words[:1]}.isdisjoint({*COMMANDS} - {"hub"})


with _any_endpoint():
    import huggingface_hub.constants  # noqa: F401
    if not _needs_no_net():
        from . import models as models  # registers them

if TYPE_CHECKING:
    from .cards.variants import table as table
    from .data.dataset import ImageDataset as ImageDataset
    from .data.loader import Augmentation as Augmentation
    from .data.loader import EvalLoader as EvalLoader
    from .data.loader import TrainLoader as TrainLoader
    from .data.sources import load_dataset as load_dataset
    from .errors import UserError as UserError
    from .evaluation import attacks as attacks
    from .evaluation import metrics as metrics
    from .evaluation.logits import dataset_logits as dataset_logits
    from .evaluation.predict import predict as predict
    from .kernels.winograd import winograd as winograd
    from .models.build import class_names as class_names
    from .models.fold import fold_batch_norm as fold_batch_norm
    from .models.wide_resnet import WideResNet as WideResNet
    from .models.wide_resnet import wide_resnet as wide_resnet
    from .training.distill import Teacher as Teacher
    from .training.distill import distillation as distillation
    from .training.options import TrainOptions as TrainOptions
    from .training.trainer import train as train

# imported when asked for: what each needs, an import of the models shouldn't
_LAZY = {
    "models.wide_resnet": ("WideResNet", "wide_resnet"), "models.build": ("class_names",),
    "models.fold": ("fold_batch_norm",), "kernels.winograd": ("winograd",), "cards.variants": ("table",),
    "data.sources": ("load_dataset",), "data.dataset": ("ImageDataset",),
    "data.loader": ("Augmentation", "EvalLoader", "TrainLoader"), "errors": ("UserError",),
    "training.trainer": ("train",), "training.options": ("TrainOptions",),
    "training.distill": ("Teacher", "distillation"), "evaluation.logits": ("dataset_logits",),
    "evaluation.predict": ("predict",), "evaluation": ("attacks", "metrics")}
_HOME = {name: module for module, names in _LAZY.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOME[name]}"
    if name in ("attacks", "metrics"):  # modules of their own
        return import_module(f"{home}.{name}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
