"""Every Wide ResNet with its size, cost and weights, as a Markdown table.

python scripts/list_models.py             # to the screen
python scripts/list_models.py README.md   # into a file, between <!-- models --> and <!-- /models -->
"""
from pathlib import Path

import wrn_hub  # noqa: F401
from wrn_hub.cli import Parser, run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="file whose table is brought up to date")
    args = parser.parse_args()

    from wrn_hub.reporting.variants import markdown_table, update_between_marks, variants

    table = markdown_table(variants())
    if args.file:
        print(f"{args.file}: {'updated' if update_between_marks(args.file, table) else 'up to date'}")
    else:
        print(table, end="")


if __name__ == "__main__":
    run(main)
