"""Make the model cards and their pictures from what was measured, or check that they are up to date.

python scripts/maintain/make_cards.py
python scripts/maintain/make_cards.py --check

No dataset is needed: it reads what scripts/evaluate.py and scripts/maintain/measure_speed.py left in model_cards.
Results of the same training with other seeds, put beside a results.json as results.seed1.json and so on, are stated
as mean and standard deviation.
"""
from pathlib import Path

from wrn_hub.commands.cli import Parser, run
from wrn_hub.errors import UserError

ROOT = Path(__file__).resolve().parents[2] / "model_cards"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a card or picture is stale")
    args = parser.parse_args()

    from wrn_hub.cards.index import check_cards, write_cards

    if args.check:
        wrong = check_cards(ROOT)
        if wrong:
            raise UserError("; ".join(wrong))
        print("every card is up to date")
        return
    for name in write_cards(ROOT):
        print(name)


if __name__ == "__main__":
    run(main)
