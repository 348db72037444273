"""Wide Residual Networks (arXiv:1605.07146) as first-class timm models.

Importing this package registers the models with timm and does nothing else::

    import timm, wrn_hub
    model = timm.create_model("wrn_16_2", pretrained=True)
"""
from typing import TYPE_CHECKING, Any

from .models.build import class_names as class_names
from .models.wide_resnet import WideResNet as WideResNet
from .models.wide_resnet import wide_resnet as wide_resnet

if TYPE_CHECKING:
    from .models.fold import fold_batch_norm as fold_batch_norm
    from .reporting.variants import table as table

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "fold_batch_norm":  # loaded when it is asked for, as is the next
        from .models.fold import fold_batch_norm

        return fold_batch_norm
    if name == "table":
        from .reporting.variants import table

        return table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
