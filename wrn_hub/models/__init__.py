"""The Wide ResNets; importing this registers every one of them with timm."""
from . import wide_resnet_in1k as wide_resnet_in1k
from .wide_resnet import WideResNet as WideResNet
from .wide_resnet import wide_resnet as wide_resnet
