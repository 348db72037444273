"""Export a model for use without this package: to ONNX, in float32 or int8, or to torch.export's pt2.

wrn-hub export --model wrn_16_2.cifar10                                  # wrn_16_2.cifar10.onnx
wrn-hub export --model runs/finetune/model --int8 --dataset pets --output pets.onnx
wrn-hub export --model wrn_16_2.cifar10 --int8 --data-dir DATA           # calibrated on CIFAR-10, accuracy said
wrn-hub export --model wrn_16_2.cifar10 --format pt2

The batch may be of any size. The file is written once its logits were those of the net. Its metadata say how images
are to be prepared and what the classes are called.
"""
from pathlib import Path

from .cli import Parser, add_preprocessing


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--model", default="wrn_16_2.cifar10", help="timm model, Hub id, or folder of a model (%(default)s)")
    parser.add_argument("--output", type=Path, help="file to write (the model's name with .onnx, .int8.onnx or .pt2)")
    parser.add_argument("--format", default="onnx", choices=("onnx", "pt2"), help="(%(default)s)")
    parser.add_argument(
        "--int8", action="store_true", help="weights and activations in 8-bit integers (onnxruntime's static "
        "quantization), and what that changes on the test images")
    parser.add_argument(
        "--dataset", help="name, Hub id or folder whose images calibrate int8 (with --data-dir the dataset of the "
        "model's tag, else sample)")
    parser.add_argument("--data-dir", help="folder that holds the dataset")
    parser.add_argument("--calibration-images", type=int, default=500, help="training images for int8 (%(default)s)")
    add_preprocessing(parser)
    parser.add_argument(
        "--model-kwargs", nargs="+", default=(), metavar="NAME=VALUE",
        help="arguments of the net, such as act_layer=silu")
    args = parser.parse_args()

    from ..evaluation.exported import export_source

    exported = export_source(
        args.model, args.output, args.format, args.int8, args.dataset, args.data_dir, args.image_size,
        args.calibration_images, args.crop_pct, args.crop_mode, args.interpolation,
        args.model_kwargs)
    for line in exported.lines():
        print(line)
