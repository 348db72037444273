"""Train the weights that the project wants, one after the other, as zoo.toml beside this file lists them.

python scripts/maintain/zoo.py status                     what is wanted, what was reached, what is under way
python scripts/maintain/zoo.py next --data-dir DATA       train the first that is not done, or go on with it where it
                                                          was stopped; then stage, measure, make its card
python scripts/maintain/zoo.py next --again wrn_16_2.cifar10 --data-dir DATA
                                                          all trainings of a weight anew, staging nothing

A weight is done when what is staged was trained exactly as the list says, and what a training gave is staged whatever
the test split says of it; how its recipe was chosen, the list says.
"""
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from wrn_hub.commands.cli import Parser, run, say
from wrn_hub.errors import UserError, nearest
from wrn_hub.files import read_csv, read_json, read_toml
from wrn_hub.recipes import load_recipe
from wrn_hub.training.options import PACE, TrainOptions

LIST = Path(__file__).resolve().with_name("zoo.toml")
CHECKOUT = LIST.parents[2]


@dataclass(frozen=True)
class Training:
    """One training of a weight.

    Attributes:
        recipe: Name of a recipe.
        settings: Of the recipe, and those that differ from it: fields of :class:`TrainOptions`.
    """

    recipe: str
    settings: dict[str, Any]

    def is_that_of(self, recorded: dict[str, Any]) -> bool:
        """Whether an args.json was written by this training, on whatever hardware."""
        return recorded.get("recipe") == self.recipe and all(
            _plain(recorded.get(name)) == _plain(value) for name, value in self.settings.items() if name not in PACE)


@dataclass(frozen=True)
class Weight:
    """A weight that is wanted; ``mark`` and ``aim`` are top-1 in %."""

    name: str
    mark: float
    aim: float | None = None
    chosen: str | None = None
    trainings: tuple[Training, ...] = ()

    def done(self, checkout: Path) -> int:
        """How many of its trainings are behind the weight that is staged."""
        file = checkout / "model_cards" / self.name / "args.json"
        if not file.is_file():
            return 0
        last = read_json(file)
        behind = [*last.get("before", []), last]
        same = len(behind) <= len(self.trainings) and all(
            training.is_that_of(recorded) for training, recorded in zip(self.trainings, behind, strict=False))
        return len(behind) if same else 0

    def measured(self, checkout: Path) -> float | None:
        """Top-1 of what is staged, in %."""
        file = checkout / "model_cards" / self.name / "results.json"
        return 100 * read_json(file)["top1"] if file.is_file() else None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def read_zoo(path: Path = LIST) -> list[Weight]:
    """The list, in the order in which its weights are to be trained.

    Raises:
        UserError: it names a setting that there isn't, or lacks the mark of a weight.
    """
    known = [item.name for item in fields(TrainOptions)]
    zoo = []
    for name, entry in read_toml(path).items():
        trainings = []
        for training in entry.pop("trainings", []):
            recipe = training.pop("recipe", None)
            for key in training:
                if key not in known:
                    raise UserError(f"{path}, {name}: no setting {key!r}.{nearest(key, known)}")
            settings = load_recipe(recipe, TrainOptions).options if recipe else {}
            own = {key: tuple(value) if isinstance(value, list) else value for key, value in training.items()}
            trainings.append(Training(recipe, {**settings, **own}))
        try:
            zoo.append(Weight(name, trainings=tuple(trainings), **entry))
        except TypeError as error:
            raise UserError(f"{path}, {name}: {error}; needed is a mark, allowed are aim, chosen, trainings") from None
        if trainings and not zoo[-1].chosen:
            raise UserError(f"{path}, {name}: has trainings, but doesn't say in `chosen` how they were chosen")
    return zoo


def under_way(folder: Path) -> str:
    """What a run's folder tells of it."""
    from wrn_hub.training import checkpoint

    if (folder / "model" / "config.json").is_file():
        return "trained, not staged"
    newest = checkpoint.newest(folder / "checkpoints")
    if newest is None:
        return ""
    epoch, step = (int(number) for number in newest.name.split("-")[1].split("."))
    settings = read_json(folder / "args.json")
    epochs, parts = settings["epochs"], settings["progressive_sizes"] or [settings["image_size"]]
    steps = settings["images"] // settings["batch_size"]
    text = f"epoch {epoch + 1} of {epochs}, step {step} of {steps}"
    if (folder / "metrics.csv").is_file():
        rows = read_csv(folder / "metrics.csv")
        pixels = [parts[place * len(parts) // epochs] ** 2 for place in range(epochs)]  # what an epoch's time goes by
        spent = sum(float(row["seconds"]) for row in rows) / sum(pixels[: len(rows)])
        left = spent * (sum(pixels[epoch:]) - pixels[min(epoch, epochs - 1)] * step / steps)
        text += f", about {left / 3600:.1f} h left"
    return text


def status(zoo: Sequence[Weight], runs: Path, checkout: Path) -> list[str]:
    """A line a weight."""
    lines = [f"{'weight':20} {'mark':>6} {'staged':>7}  trainings"]
    for weight in zoo:
        measured, done, all_of_them = weight.measured(checkout), weight.done(checkout), len(weight.trainings)
        text = f"{done} of {all_of_them}" if all_of_them else "none chosen yet"
        if done < all_of_them and (now := under_way(runs / f"{weight.name}.{done + 1}")):
            text += f"; {now}"
        reached = "-" if measured is None else f"{measured:.2f}"
        lines.append(f"{weight.name:20} {weight.mark:6.2f} {reached:>7}  {text}")
    return lines


def train_next(
    weight: Weight, number: int, runs: Path, data_dir: str | None, changes: dict[str, Any], start: str | None = None
) -> Path:
    """Do, or go on with, training ``number`` (from 1) of a weight; returns the run's folder.

    Args:
        weight: Which.
        number: Which of its trainings.
        runs: Folder for the runs.
        data_dir: Folder that holds the datasets.
        changes: Settings of the machine: threads, precision, whether other hardware is allowed.
        start: Where a second or later training starts from, if not from what is staged.

    Raises:
        UserError: a run lies there that the list had other settings for.
    """
    from wrn_hub.training.trainer import train

    training, folder = weight.trainings[number - 1], runs / f"{weight.name}.{number}"
    arch, _, dataset = weight.name.partition(".")
    if (folder / "model" / "config.json").is_file():
        if not training.is_that_of(read_json(folder / "args.json")):
            raise UserError(
                f"{folder} holds a finished run that isn't training {number} of {weight.name} as {LIST.name} has it "
                "now: move it elsewhere")
        return folder
    options = TrainOptions(**{
        **training.settings, "model": arch if number == 1 else start or weight.name, "pretrained": number > 1,
        "dataset": dataset, "data_dir": data_dir, "output": str(folder), **changes})
    options = replace(options, resume=(folder / "args.json").is_file())
    return train(options, training.recipe).folder


def measure(weight: Weight, checkout: Path, data_dir: str | None) -> None:
    """Measure what is staged on the test split, as scripts/evaluate.py does, and make the cards."""
    from wrn_hub.evaluation.evaluate import evaluate_source
    from wrn_hub.evaluation.options import EvaluateOptions

    name, dataset = weight.name, weight.name.partition(".")[2]
    folder = checkout / "model_cards" / name
    command = f"evaluate.py --model {name} --dataset {dataset} --data-dir data --output model_cards/{name}"
    evaluate_source(EvaluateOptions(str(folder), dataset, data_dir, output=str(folder)), command)
    # in a process of its own: this one knows the weights that there were when it began
    subprocess.run([sys.executable, str(LIST.with_name("make_cards.py"))], check=True)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("what", choices=("status", "next"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these weights (all)")
    parser.add_argument("--data-dir", help="folder that holds the datasets")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "zoo", help="folder for the runs (%(default)s)")
    parser.add_argument("--again", action="store_true", help="train anew what was trained already; stages nothing")
    parser.add_argument("--threads", type=int, help="threads on a CPU; all cores by default")
    parser.add_argument("--allow-other-hardware", action="store_true",
                        help="go on with a run that was begun with another precision, device or number of threads")
    args = parser.parse_args()

    from wrn_hub.hub.stage import stage

    zoo = read_zoo()
    for name in args.names:
        if name not in [weight.name for weight in zoo]:
            raise UserError(f"{name} is not in {LIST.name}.{nearest(name, [weight.name for weight in zoo])}")
    zoo = [weight for weight in zoo if not args.names or weight.name in args.names]
    if args.what == "status":
        print("\n".join(status(zoo, args.runs, CHECKOUT)))
        return
    changes = {"threads": args.threads, "allow_other_hardware": args.allow_other_hardware}
    if args.again:
        for weight in zoo:
            start = None
            for number in range(1, len(weight.trainings) + 1):
                folder = train_next(weight, number, args.runs / "again", args.data_dir, changes, start)
                start = str(folder / "model")
                say(f"{weight.name}, training {number}: {folder}")
        return
    for weight in zoo:
        done, unmeasured = weight.done(CHECKOUT), weight.measured(CHECKOUT) is None
        if done < len(weight.trainings) and not (done and unmeasured):  # else it was killed while it measured
            stage(train_next(weight, done + 1, args.runs, args.data_dir, changes), weight.name, CHECKOUT)
            done, unmeasured = done + 1, True
        if done and unmeasured:
            measure(weight, CHECKOUT, args.data_dir)
            say(f"{weight.name}: training {done} of {len(weight.trainings)} is staged, "
                f"{weight.measured(CHECKOUT):.2f} % (mark {weight.mark:.2f}). To commit: "
                f"git add model_cards wrn_hub/weights.json && git commit")
            return
    say("every weight of the list is trained and staged")


if __name__ == "__main__":
    run(main)
