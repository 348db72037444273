"""Every Wide ResNet with its size, cost and weights, and what the weights were measured to do, as Markdown tables.

python scripts/list_models.py             # to the screen
python scripts/list_models.py README.md   # into a file, between <!-- models --> and <!-- /models -->, and weights alike
"""
from pathlib import Path

import wrn_hub  # noqa: F401
from wrn_hub.cli import Parser, run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="file whose tables are brought up to date")
    args = parser.parse_args()

    from wrn_hub.cards.variants import markdown_table, update_between_marks, variants, weights_table

    for mark, table in (("models", markdown_table(variants())), ("weights", weights_table())):
        if args.file:
            changed = update_between_marks(args.file, table, mark)
            print(f"{args.file}, {mark}: {'updated' if changed else 'up to date'}")
        else:
            print(table)


if __name__ == "__main__":
    run(main)
