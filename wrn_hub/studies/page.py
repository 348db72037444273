"""The page of a study and the index of all, made of nothing but the study's file and its results.json."""
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cards.markdown import listed, table
from ..errors import UserError
from ..files import read_text, write_whole
from ..training.report import duration
from .plot import check_plots, picture_names, write_plots
from .results import Results
from .run import guess_of_all
from .seen import APPEARS, CLOSE, OPPOSITE, UNKNOWN, Seen
from .study import COLUMNS, Net, Scale, Study

__all__ = ["check_index", "check_study", "index_text", "page_text", "write_index", "write_study"]


def _seen(study: Study, root: Path) -> list[Seen]:
    """Each scale's results; a scale of which nothing was measured only if it is the first."""
    results = Results(study, root)
    every = [Seen(study, scale, results) for scale in study.scales.values()]
    return [seen for number, seen in enumerate(every) if not number or not seen.empty]


def _table(seen: Seen) -> str:
    study, scale = seen.study, seen.scale
    columns = [column for column in study.columns if column != "paper" or any(net.paper for net in scale.nets)]
    named = [_heading(study, column) for column in columns]
    rows = [[net.name, *(seen.cell(net, column) for column in columns), *_seeds(seen, net)] for net in scale.nets]
    header = ["net", *named, *(["seeds"] if scale.seeds else [])]
    return table(header, rows, right=range(1, len(header)), padded=True)


def _heading(study: Study, column: str) -> str:
    return COLUMNS[column] + {"paper": f": {study.unit}", "ratio": f" {study.reference}"}.get(column, "")


def _seeds(seen: Seen, net: Net) -> list[str]:
    wanted = seen.scale.seeds
    return [f"{len(seen.records(net))} of {wanted}"] if wanted else []


def _missing(seen: Seen) -> str | None:
    """What hasn't been run, by net."""
    parts = []
    for net in seen.scale.nets:
        left = [str(seed) for seed in range(seen.scale.seeds) if (net.name, seed) not in seen.runs]
        if left:
            parts.append(f"{net.name} (seed{'s' * (len(left) > 1)} {listed(left)})")
    if seen.scale.steps and seen.steps is None:
        parts.append("time and memory of a step")
    return f"Not run yet: {'; '.join(parts)}." if parts else None


def _complete(seen: Seen) -> bool:
    """Whether everything was run: nothing is to be learnt of less."""
    return _missing(seen) is None


def _conditions(seen: Seen) -> list[str]:
    """Where it ran, on what, with which versions, and how long that took."""
    lines = []
    runs = list(seen.runs.values())
    if runs:
        where = Counter((run["hardware"], run["precision"]) for run in runs)
        places = [f"{count} on {name} in {precision}" for (name, precision), count in sorted(where.items())]
        versions = sorted({f"PyTorch {run['versions']['torch']}, timm {run['versions']['timm']}" for run in runs})
        side = seen.scale.image_size
        data = sorted({f"{run['images']:,} images of {run['dataset']} in {side}x{side} pixels, measured on all "
                       f"{run['test_images']:,} of its test split after the last epoch, without test-time augmentation"
                       for run in runs})
        spent = sum(run["seconds"] for run in runs)
        lines.append(f"{len(runs)} training{'s' * (len(runs) > 1)} of {duration(spent)} in all: {'; '.join(places)}; "
                     f"{' and '.join(versions)}. Trained on {' and '.join(data)}.")
        if not _alike(runs):
            lines.append("Not all of them saw the same images: their fingerprints in results.json differ.")
        lines.append("Spread is the standard deviation over seeds; the training error is of the last epoch, on "
                     "augmented images where there are such.")
    if seen.steps:
        steps = seen.steps
        package = steps["package"]
        how = f"{package['precision']}, {package['layout']}" + (", Winograd" if package["winograd"] == "on" else "")
        lines.append(
            f"A step is forward and backward of {steps['batch_size']} images of {steps['image_size']} pixels, the "
            f"mean of {len(steps['rows'][0]['seconds'])} rounds in which every net had its turn: plainly, in fp32 "
            + (f"and torch's own layout, and as this package does it, in {how}" if _package(seen.study) else
               "and torch's own layout")
            + f"; on {steps['hardware']}, PyTorch {steps['versions']['torch']}, {steps['date'][:10]}. Its "
              f"memory is the least of {steps['memory_tries']} measurements of the plain one.")
    return lines


def _alike(runs: Sequence[dict[str, Any]]) -> bool:
    """Whether all saw the same images, or where these are drawn by the seed, all of a seed did."""
    seen = {(run["seed"] if run["options"].get("train_images") else None, run["train_fingerprint"],
             run["test_fingerprint"]) for run in runs}
    return len(seen) == len({seed for seed, *_ in seen})


def _package(study: Study) -> bool:
    return "package_step" in study.columns


def _command(study: Study, scale: Scale) -> str:
    name = f"python scripts/study.py {study.name}"
    return name + (" --scale paper" if scale.name == "paper" else "") + (" --data-dir data" if scale.seeds else "")


def _costs(scale: Scale) -> str:
    """How long all of a scale takes."""
    if not scale.seeds:
        return "minutes"
    of = f"{len(scale.nets) * scale.seeds} trainings"
    if scale.name == "paper":
        return f"{of} of {scale.options['epochs']} epochs: for a GPU, or many"
    return f"{of}, computed to take two cores with AVX2 about {guess_of_all(scale) / 3600:.1f} hours"


def _section(seen: Seen) -> list[str]:
    scale = seen.scale
    title = {"small": "At a scale for two cores", "paper": "At the paper's scale"}[scale.name]
    parts = [f"## {title}", f"{scale.about}."]
    if seen.empty:
        parts.append("Not run yet.")
    else:
        parts += [_table(seen), *filter(None, [_missing(seen)])]
        pictures = picture_names(seen)
        if pictures:
            parts.append(f"![{seen.study.title}]({pictures[0]})")
        parts.append("\n".join(f"- {line}" for line in [
            *(verdict.text() for verdict in seen.verdicts()), *filter(None, [seen.order()])]))
        parts += _conditions(seen)
    parts.append(f"```bash\n{_command(seen.study, scale)}   # {_costs(scale)}\n```")
    return parts


def page_text(study: Study, root: Path) -> str:
    """The study's README.md.

    Args:
        study: Which.
        root: Folder of the studies' folders.
    """
    every = _seen(study, root)
    shown = {seen.scale.name for seen in every}
    parts = [
        f"# {study.title}", f"> {study.claim}.\n>\n> {study.source}", f"{_headline(every[0])}.",
        *([f"**What a reader learns:** {study.learns}."] if _complete(every[0]) else []),
        *(part for seen in every for part in _section(seen))]
    parts += [
        f"At the {name}'s own scale nothing has been run yet; the same code does it:\n\n"
        f"```bash\n{_command(study, scale)}   # {_costs(scale)}\n```"
        for name, scale in study.scales.items() if name not in shown]
    parts.append("[All studies](../README.md); the numbers, each training with its settings, hardware and time: "
                 "[results.json](results.json)" if any(not seen.empty for seen in every) else
                 "[All studies](../README.md)")
    return "\n\n".join(parts) + "\n"


def _headline(seen: Seen) -> str:
    """What became of the claims, in one sentence."""
    kinds = Counter(verdict.kind for verdict in seen.verdicts())
    if seen.empty or kinds[UNKNOWN] == sum(kinds.values()):
        return "Not run yet"
    words = {APPEARS: "appear", CLOSE: "can't be told from the spread", OPPOSITE: "come out the other way round",
             UNKNOWN: "aren't known yet"}
    singular = {APPEARS: "appears", CLOSE: "can't be told from the spread", OPPOSITE: "comes out the other way round",
                UNKNOWN: "isn't known yet"}
    parts = [f"{kinds[kind]} {(singular if kinds[kind] == 1 else words)[kind]}" for kind in words if kinds[kind]]
    done, wanted = len(seen.runs), seen.scale.seeds * len(seen.scale.nets)
    so_far = f", after {done} of {wanted} trainings" if done < wanted else ""
    every = sum(kinds.values())
    if len(parts) == 1:
        subject = {1: "The claim", 2: "Both claims"}.get(every, f"All {every} claims")
        return f"{subject} checked here {parts[0].partition(' ')[2]}{so_far}"
    return f"Of {every} claims checked here, {listed(parts)}{so_far}"


def index_text(studies: Sequence[Study], root: Path) -> str:
    """The README.md beside the studies' folders."""
    rows = []
    for study in studies:
        every = _seen(study, root)
        seen, begun = every[0], any(not seen.empty for seen in every)  # one without results may have no page
        rows.append([f"[{study.title}]({study.name}/README.md)" if begun else f"{study.title}: `{study.name}`",
                     f"{_headline(seen)}.",
                     f"{study.learns}." if _complete(seen) else ""])
    return "\n\n".join([
        "# Studies",
        "What the paper and the texts that teach it say of Wide ResNets, each claim with the command that checks it: "
        "`python scripts/study.py NAME`, on two cores in an hour or two, or with `--scale paper` by the paper's own "
        "schedule. Several seeds; a difference counts where it is more than its 95 % interval, and a claim that "
        "doesn't appear is reported so.",
        table(["study", "what was seen", "what a reader learns"], rows)]) + "\n"


def write_study(study: Study, root: Path) -> Path:
    """Make the page and its pictures; returns the page."""
    folder = root / study.name
    for seen in _seen(study, root):
        write_plots(seen, folder)
    return _write(folder / "README.md", page_text(study, root))


def write_index(studies: Sequence[Study], root: Path) -> Path:
    """Make the index."""
    return _write(root / "README.md", index_text(studies, root))


def _write(path: Path, text: str) -> Path:
    if not path.is_file() or read_text(path) != text:
        write_whole(path, text)
    return path


def check_study(study: Study, root: Path) -> list[str]:
    """What of a study isn't what its results.json makes of it, by path; a study without a folder has nothing stale."""
    folder = root / study.name
    if not folder.is_dir():
        return []
    stale = [] if _same(folder / "README.md", page_text(study, root)) else ["README.md"]
    for seen in _seen(study, root):
        stale += check_plots(seen, folder)
    return [f"{study.name}/{name}" for name in stale]


def check_index(studies: Sequence[Study], root: Path) -> list[str]:
    """The index, if it isn't what the results make of it."""
    return [] if not root.is_dir() or _same(root / "README.md", index_text(studies, root)) else ["README.md"]


def _same(path: Path, text: str) -> bool:
    try:
        return read_text(path) == text
    except UserError:
        return False
