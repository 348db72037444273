"""Wide Residual Networks (arXiv:1605.07146) as first-class timm models.

Importing this package registers the models with timm and does nothing else::

    import timm, wrn_hub
    model = timm.create_model("wrn_16_2", pretrained=True)
"""
from .models.wide_resnet import WideResNet as WideResNet
from .models.wide_resnet import wide_resnet as wide_resnet

__version__ = "0.1.0"
