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


def _help_alone() -> bool:
    """Whether one of this package's own commands was started for its --help, which needs no net: torch and timm take
    seconds to import."""
    program = Path(sys.argv[0] if sys.argv else "")
    ours = (program.name in ("wrn-hub", "wrn-hub.exe") or ("-m", __name__) in pairwise(sys.orig_argv)
            or program.resolve().parent == Path(__file__).resolve().parents[1] / "scripts")
    return ours and not {"-h", "--help"}.isdisjoint(sys.argv[1:])


if not _help_alone():
    with _any_endpoint():
        from . import models as models  # registers them

if TYPE_CHECKING:
    from .cards.variants import table as table
    from .kernels.winograd import winograd as winograd
    from .models.build import class_names as class_names
    from .models.fold import fold_batch_norm as fold_batch_norm
    from .models.wide_resnet import WideResNet as WideResNet
    from .models.wide_resnet import wide_resnet as wide_resnet

__all__ = ["WideResNet", "class_names", "fold_batch_norm", "table", "wide_resnet", "winograd"]

# imported when asked for: what each needs, an import of the models shouldn't
_LAZY = {
    "WideResNet": "models.wide_resnet", "wide_resnet": "models.wide_resnet", "class_names": "models.build",
    "fold_batch_norm": "models.fold", "winograd": "kernels.winograd", "table": "cards.variants"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
