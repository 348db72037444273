"""Train twice, once in peace and once killed again and again at random moments; compare the results bit for bit.

python tests/kill_twenty_times.py --data-dir DATA --epochs 2 --sizes 8 --batch-size 512 --threads 1

SIGKILL, or SIGINT as Ctrl-C sends it, ends the training at random moments, each followed by --resume: one time in five
while it starts, else while it trains. With the default a checkpoint is saved after each step, so that many kills fall
into the saving. What happened is written beside this file as a table.
"""
import argparse
import csv
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from wrn_hub.data import load_dataset
from wrn_hub.record import hardware, versions

TRAIN = Path(__file__).resolve().parent.parent / "scripts" / "train.py"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="wrn_16_1", help="(%(default)s)")
    parser.add_argument("--dataset", default="cifar10", help="(%(default)s)")
    parser.add_argument("--data-dir", help="folder that holds the dataset")
    parser.add_argument("--epochs", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--sizes", default="", help="side of the images in pixels, as --progressive-sizes takes it")
    parser.add_argument("--batch-size", type=int, default=128, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--checkpoint-minutes", type=float, default=0.0, help="(%(default)s: after each step)")
    parser.add_argument("--work", type=Path, help="folder for the two runs; a finished twin in it is used again")
    parser.add_argument("--kills", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"), help="the table")
    return parser.parse_args()


def newest(run: Path) -> tuple[int, int]:
    """(whole epochs, steps of the next) of the newest checkpoint; (0, 0) where there is none."""
    names = sorted(path.name for path in (run / "checkpoints").glob("epoch-*.pt"))
    if not names:
        return 0, 0
    epoch, _, step = names[-1].split("-")[1].partition(".")
    return int(epoch), int(step)


def half_written(run: Path) -> set[Path]:
    """What a killed saving left behind; the next one removes it."""
    return set((run / "checkpoints").glob(".epoch-*"))


def result(run: Path) -> tuple[str, list[dict[str, str]]]:
    """(sha256 of the weights, the curve without the times)."""
    with open(run / "metrics.csv", newline="") as file:
        curve = [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
                 for row in csv.DictReader(file)]
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest(), curve


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and theirs, ignore it
    args = parsed()
    command = [
        "scripts/train.py", "--model", args.model, "--dataset", args.dataset, "--data-dir", "DATA",
        "--epochs", str(args.epochs), "--batch-size", str(args.batch_size), "--threads", str(args.threads),
        "--eval-every", str(args.epochs), "--precision", "fp32",
        "--checkpoint-minutes", f"{args.checkpoint_minutes:g}"]
    if args.sizes:
        command += ["--progressive-sizes", args.sizes]
    arguments = [sys.executable, str(TRAIN), *command[1:]]
    if args.data_dir:
        arguments[arguments.index("DATA")] = args.data_dir
    else:
        del arguments[arguments.index("--data-dir") : arguments.index("DATA") + 1]

    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        twin, killed = work / "twin", work / "killed"
        if not (twin / "model").exists():
            subprocess.run([*arguments, "--output", str(twin)], check=True)
        steps = len(load_dataset(args.dataset, "train", args.data_dir)) // args.batch_size
        print(f"{args.epochs} epochs of {steps} steps", flush=True)

        def done() -> int:
            epoch, step = newest(killed)
            return epoch * steps + step

        moments = random.Random(args.seed)
        rows, resume = [], []
        for kill in range(1, args.kills + 1):
            before, left, starting = newest(killed), half_written(killed), moments.random() < 0.2
            further = moments.randint(1, args.epochs * steps // args.kills)
            delay = moments.uniform(0, 10 if starting else 0.3)
            killer = moments.choice((signal.SIGKILL, signal.SIGINT))
            process = subprocess.Popen(
                [*arguments, "--output", str(killed), *resume], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            first = done()
            while not starting and done() < first + further and process.poll() is None:
                time.sleep(0.01)
            time.sleep(delay)
            process.send_signal(killer)
            # after Ctrl-C a command ends with 130, and Python, while it imports, by the signal
            if process.wait() not in (-killer, 128 + killer):
                sys.exit(f"the training ended with {process.returncode} before kill {kill}: choose more epochs")
            epoch, step = newest(killed)
            moment = "while it started" if (epoch, step) == before else "in training"
            if half_written(killed) - left:
                moment = "while it saved"
            rows.append(
                f"| {kill} | {killer.name} | {delay:.2f} s after {'the start' if starting else f'{further} steps'} | "
                f"{moment} | "
                + (f"epoch {epoch + 1}, step {step} |" if (epoch, step) != (0, 0) else "none |"))
            print(rows[-1], flush=True)
            resume = ["--resume"] if newest(killed) != (0, 0) else []
        subprocess.run([*arguments, "--output", str(killed), *resume], check=True)
        (weights, curve), (weights_killed, curve_killed) = result(twin), result(killed)

    same = weights == weights_killed and curve == curve_killed
    args.output.write_text("\n".join([
        f"# One training killed {args.kills} times", "",
        f"Written by `{Path(__file__).name}`: `{' '.join(command)}` once in peace, "
        "once killed (SIGKILL) or interrupted (SIGINT, as by Ctrl-C) at random moments and started again with "
        f"`--resume`; an epoch has {steps} steps.",
        f"{hardware(torch.device('cpu')).rpartition(',')[0]}, "
        f"{args.threads} thread{'s' if args.threads > 1 else ''}; "
        f"{', '.join(f'{name} {version}' for name, version in versions().items())}.", "",
        "| kill | signal | when | which was | newest checkpoint |", "|---:|---|---|---|---|", *rows, "",
        f"sha256 of the weights in peace: `{weights}`  ", f"sha256 of the weights when killed: `{weights_killed}`  ",
        f"The {len(curve)} rows of metrics.csv, times left out, are {'the same' if curve == curve_killed else 'not'}.",
        "", "**Bit for bit the same.**" if same else "**Not the same.**", ""]))
    print(f"{'bit for bit the same' if same else 'NOT THE SAME'}; the table is in {args.output}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
