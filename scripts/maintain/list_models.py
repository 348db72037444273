"""Every Wide ResNet with its size, cost and weights, and what the weights were measured to do, as Markdown tables.

python scripts/maintain/list_models.py                                # to the screen
python scripts/maintain/list_models.py README.md scripts/README.md    # into files, where the marks are
python scripts/maintain/list_models.py --costs                        # after a variant was added: counts all anew

The marks are <!-- models --> and <!-- /models --> for the variants, and weights likewise.
"""
from pathlib import Path

from wrn_hub.commands.cli import Parser, run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="files whose tables are brought up to date")
    parser.add_argument("--costs", action="store_true", help="count every net first, into costs.json")
    args = parser.parse_args()

    from wrn_hub.cards.costs import write_costs
    from wrn_hub.cards.variants import markdown_table, update_between_marks, variants, weights_table
    from wrn_hub.files import read_text

    if args.costs:
        write_costs()
    tables = {"models": markdown_table(variants()), "weights": weights_table()}
    for file in args.files:
        text = read_text(file)
        for mark in [mark for mark in tables if f"<!-- {mark} -->" in text] or ["models"]:
            changed = update_between_marks(file, tables[mark], mark)
            print(f"{file}, {mark}: {'updated' if changed else 'up to date'}")
    if not args.files:
        print(*tables.values(), sep="\n", end="")


if __name__ == "__main__":
    run(main)
