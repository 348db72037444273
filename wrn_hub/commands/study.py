"""Check a claim of the paper: train the nets of a study, several seeds each, and make its page.

wrn-hub study                                             # which studies there are
wrn-hub study depth_against_width --data-dir DATA         # train what is missing, or go on; then the page
wrn-hub study depth_against_width --status                # what is there, what is missing, how long it will take
wrn-hub study depth_against_width --scale paper --data-dir DATA   # with the paper's own schedule, on a GPU
wrn-hub study --check                                     # whether every page is what its results.json makes of it

A finished training is kept in results.json at once and never trained again; an interrupted one goes on.
"""
import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Stopped, UserError
from ..studies.study import SCALES, Scale, Study, load_study, study_names
from .cli import Parser, checkout, say

if TYPE_CHECKING:
    from ..studies.run import Machine


def _root(results: Path | None) -> Path:
    """Where the studies' folders lie: in the clone, or where no clone is at hand, below the working directory."""
    if results:
        return results
    try:
        return checkout() / "model_cards" / "studies"
    except UserError:
        return Path("studies")


def _status(study: Study, scale: Scale, root: Path) -> list[str]:
    from ..studies.results import Results
    from ..studies.run import status

    return [f"{study.name}, {scale.name}", *(f"  {line}" for line in status(Results(study, root), scale))]


def _do(study: Study, root: Path, machine: "Machine", args: argparse.Namespace) -> None:
    """Train what is missing, then measure steps where nobody has."""
    from ..studies.results import Results
    from ..studies.run import train_missing
    from ..studies.steps import measure_steps

    results, scale = Results(study, root), study.scale(args.scale)
    limited = args.runs is not None or args.minutes is not None
    if scale.seeds and not args.steps:
        train_missing(results, scale, machine, args.runs, args.minutes)
    if scale.steps and (args.steps or (not limited and results.steps(scale) is None)):
        results.set_steps(scale, measure_steps(scale, machine))


def _pages(studies: list[Study], root: Path) -> list[Path]:
    """Make the pages; those of the package's own studies are listed in the index."""
    from ..studies.page import write_index, write_study

    own = [load_study(name) for name in study_names()]
    pages = [write_study(study, root) for study in studies]
    return [*pages, write_index(own, root)] if any(study in own for study in studies) else pages


def _check(studies: list[Study], root: Path) -> None:
    from ..studies.page import check_index, check_study

    stale = [name for study in studies for name in check_study(study, root)]
    stale += check_index([load_study(name) for name in study_names()], root)
    if stale:
        raise UserError(f"{root}: {', '.join(stale)} not what results.json makes of it; run scripts/study.py --page")
    say("every page is what its results.json makes of it")


def main() -> None:

    parser = Parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(study_names())}, or a .toml file")
    parser.add_argument("--scale", choices=SCALES, default="small", help="what is trained (%(default)s)")
    parser.add_argument("--status", action="store_true", help="train nothing: tell what is there and what is missing")
    parser.add_argument("--check", action="store_true", help="train nothing: fail where a page or a picture is stale")
    parser.add_argument("--page", action="store_true", help="train nothing: make the page from results.json")
    parser.add_argument("--steps", action="store_true", help="train nothing: measure a step of each net anew")
    parser.add_argument("--runs", type=int, metavar="N", help="finish so many trainings at most, and measure no step")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop training after so long, and measure no step")
    parser.add_argument("--data-dir", help="folder that holds the datasets")
    parser.add_argument("--output", type=Path, default=Path("runs") / "studies", help="folder for runs (%(default)s)")
    parser.add_argument("--results", type=Path, help="folder of the studies' results; the clone's model_cards/studies")
    parser.add_argument("--threads", type=int, help="threads on a CPU; all cores by default")
    parser.add_argument("--precision", default="auto", help="fp32, bf16 or fp16; what the hardware is good at (auto)")
    args = parser.parse_args()

    root = _root(args.results)
    studies = [load_study(name) for name in args.names or study_names()]
    if not (args.names or args.check or args.page or args.status):
        for study in studies:
            say(f"{study.name:<20} {study.title}")
        return
    if args.status:
        say("\n".join(line for study in studies if args.scale in study.scales
                      for line in _status(study, study.scale(args.scale), root)))
        return
    if args.check:
        _check(studies, root)
        return
    if not args.page:
        from ..studies.run import Machine

        machine = Machine(args.data_dir, args.output, args.threads, args.precision)
        for study in studies:
            try:
                _do(study, root, machine, args)
            except Stopped:
                _pages(studies, root)  # how far it came
                raise
    for page in _pages(studies, root):
        say(str(page))
