"""Make the model cards and their pictures from what was measured, or check that they are up to date.

python scripts/make_cards.py
python scripts/make_cards.py --check
"""
from pathlib import Path

from wrn_hub.cli import Parser, run
from wrn_hub.errors import UserError

ROOT = Path(__file__).resolve().parent.parent / "model_cards"
INDEX = ROOT / "README.md"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a card or picture is stale")
    args = parser.parse_args()

    from wrn_hub.reporting.card import check_card, index_text, write_card
    from wrn_hub.weights import staged

    folders = staged(ROOT)
    if args.check:
        wrong = [line for folder in folders for line in check_card(folder)]
        if INDEX.read_text() != index_text():
            wrong.append("model_cards/README.md is stale: run scripts/make_cards.py")
        if wrong:
            raise UserError("; ".join(wrong))
        print(f"{len(folders)} cards are up to date")
        return
    for folder in folders:
        write_card(folder)
        print(f"{folder.name}/README.md")
    INDEX.write_text(index_text())


if __name__ == "__main__":
    run(main)
