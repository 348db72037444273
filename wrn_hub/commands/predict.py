"""Say what is in images: the likeliest classes with their probabilities, as a table, CSV or JSON.

wrn-hub predict cat.jpg holiday/ --model wrn_16_2.cifar10 --topk 3 --format csv
"""
from .cli import Parser, add_preprocessing


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("images", nargs="+", help="image files, or folders that are searched for them")
    parser.add_argument(
        "--model", default="wrn_16_2.cifar10", help="timm model, Hub id, or folder of a model (%(default)s)")
    parser.add_argument("--topk", type=int, default=5, help="classes an image (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="(%(default)s)")
    add_preprocessing(parser)
    parser.add_argument("--format", default="table", choices=("table", "csv", "json"), help="(%(default)s)")
    parser.add_argument("--output", help="file to write to instead of the screen")
    args = parser.parse_args()

    from ..evaluation.predict import check_output, predict, write_predictions

    check_output(args.output)
    predictions = predict(
        args.images, args.model, args.topk, args.batch_size, args.image_size, args.crop_pct, args.crop_mode,
        args.interpolation)
    write_predictions(predictions, args.format, args.output)
