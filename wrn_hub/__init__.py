"""Wide Residual Networks (arXiv:1605.07146) as first-class timm models.

Importing this package registers the models with timm and does nothing else::

    import timm, wrn_hub
    model = timm.create_model("wrn_16_2", pretrained=True)
"""
from typing import Any

from .kernels.winograd import winograd as winograd
from .models.build import class_names as class_names
from .models.fold import fold_batch_norm as fold_batch_norm
from .models.wide_resnet import WideResNet as WideResNet
from .models.wide_resnet import wide_resnet as wide_resnet

__version__ = "0.1.0"


def table() -> list[dict[str, Any]]:
    """Every variant and dataset as a plain row: size, cost, what was measured here and what others report.

    See :func:`wrn_hub.cards.variants.table` for the columns; ``pandas.DataFrame(wrn_hub.table())`` shows them.
    """
    from .cards.variants import table  # builds every net on the meta device, which an import shouldn't

    return table()
