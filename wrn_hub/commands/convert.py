"""Convert a checkpoint of another Wide ResNet into a folder that timm loads as local-dir:OUT.

wrn-hub convert wrn-28-10.pth out/wrn_28_10 --model wrn_28_10 --tag cifar10
"""
from .cli import Parser


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("source", metavar="IN", help="checkpoint of PyTorch, or safetensors; nothing in it is run")
    parser.add_argument("out", metavar="OUT", help="folder to write; must not exist, or be empty")
    parser.add_argument("--model", required=True, help="the net that it is, for example wrn_28_10")
    parser.add_argument(
        "--tag", help="the net's tag for the dataset it was trained on: gives mean, std and names of classes")
    parser.add_argument("--entry", help="which entry of the file to convert where several hold weights")
    parser.add_argument(
        "--mean", nargs=3, type=float, metavar="X", help="mean of each channel in units of 1 (pixel / 255)")
    parser.add_argument("--std", nargs=3, type=float, metavar="X", help="standard deviation of each, in the same units")
    args = parser.parse_args()

    from ..models.convert import convert_file

    converted = convert_file(args.source, args.out, args.model, args.tag, args.entry, args.mean, args.std)
    print(f"{args.out}: {converted.net}, names of {converted.layout.name}")
    for sentence in converted.assumed:
        print(f"assumed: {sentence}")
