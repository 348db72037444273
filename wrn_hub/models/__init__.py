"""The Wide ResNets; importing this registers every one of them with timm."""
from . import wide_resnet as wide_resnet
from . import wide_resnet_in1k as wide_resnet_in1k
