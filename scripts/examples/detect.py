"""A Wide ResNet as the backbone of torchvision's Faster R-CNN: its four stages under a feature pyramid.

python scripts/examples/detect.py                  # three steps of wrn_50_2 on made images
"""
import sys
from collections import OrderedDict

import timm
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import wrn_hub  # noqa: F401


class Backbone(nn.Module):
    """Images float32 (B, 3, H, W) to five maps of 256 channels, at strides 4 to 64."""

    out_channels = 256

    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        self.body = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=(1, 2, 3, 4))
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), self.out_channels, LastLevelMaxPool())

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.pyramid(OrderedDict((str(stage), maps) for stage, maps in enumerate(self.body(images))))


def detector(name: str, classes: int, pretrained: bool = True, size: int = 800) -> FasterRCNN:
    """Faster R-CNN that tells ``classes`` apart, the background among them; images are brought to ``size`` pixels."""
    return FasterRCNN(Backbone(name, pretrained), classes, min_size=size, max_size=2 * size)


def main(name: str = "wrn_50_2", pretrained: bool = False, size: int = 64, steps: int = 3) -> list[float]:
    torch.manual_seed(0)
    net = detector(name, 2, pretrained, size).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.002, momentum=0.9)
    images = [torch.rand(3, size, size) for _ in range(2)]
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([1])} for _ in images]
    losses = []
    for _ in range(steps):
        loss = torch.stack(list(net(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print("losses", *(f"{loss:.2f}" for loss in losses))
    return losses


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "wrn_50_2")
