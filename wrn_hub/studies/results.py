"""What was measured for a study: ``results.json``, to which every finished training is added at once.

The file holds for each scale ``runs``, a record a training, and ``steps``, the last measurement of time and memory. A
record counts as long as the study asks for a training of exactly these settings.
"""
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import locked, read_json, write_whole
from .study import Net, Scale, Study

__all__ = ["Results"]


class Results:
    """The results of a study, read anew whenever they are asked for: other processes may have added some.

    Args:
        study: Which.
        root: Folder of the studies' folders.
    """

    def __init__(self, study: Study, root: Path) -> None:
        self.study, self.folder = study, root / study.name
        self.path = self.folder / "results.json"

    def read(self) -> dict[str, Any]:
        """The file; without it, what an empty one would hold.

        Raises:
            UserError: it isn't JSON, or isn't of this study.
        """
        if not self.path.is_file():
            return {"study": self.study.name}
        content = read_json(self.path)
        if content.get("study") != self.study.name:
            raise UserError(f"{self.path}: holds the study {content.get('study')!r}, needed is {self.study.name!r}")
        for name, section in content.items():
            if name == "study":
                continue
            for record in section.get("runs", []):
                missing = [key for key in ("net", "seed", "options", "top1") if key not in record]
                if missing:
                    raise UserError(f"{self.path}, {name}: a run lacks {', '.join(missing)}")
        return content

    def runs(self, scale: Scale) -> dict[tuple[str, int], dict[str, Any]]:
        """(net, seed) -> the record of its training, of those that the scale asks for, in its order."""
        found = {(record["net"], record["seed"]): record for record in self.read().get(scale.name, {}).get("runs", [])}
        return {
            (net.name, seed): record for net, seed in scale.wanted()
            if (record := found.get((net.name, seed))) and record["options"] == scale.settings(net)}

    def of(self, scale: Scale, net: Net) -> list[dict[str, Any]]:
        """The records of a net, by seed."""
        return [record for (name, _), record in self.runs(scale).items() if name == net.name]

    def steps(self, scale: Scale) -> dict[str, Any] | None:
        """What was measured of a step, if it was of these nets and of such images."""
        steps = self.read().get(scale.name, {}).get("steps")
        wanted = (scale.image_size, scale.steps, [net.name for net in scale.nets])
        if steps and (steps["image_size"], steps["batch_size"], [row["net"] for row in steps["rows"]]) == wanted:
            return steps
        return None

    def add_run(self, scale: Scale, record: dict[str, Any]) -> None:
        """Add the record of a training, in place of one of the same net and seed."""
        def change(section: dict[str, Any]) -> None:
            others = [run for run in section.get("runs", [])
                      if (run["net"], run["seed"]) != (record["net"], record["seed"])]
            places = {net.name: place for place, net in enumerate(scale.nets)}
            section["runs"] = sorted(
                [*others, record], key=lambda run: (places.get(run["net"], len(places)), run["net"], run["seed"]))

        self._change(scale, change)

    def set_steps(self, scale: Scale, steps: dict[str, Any]) -> None:
        """Put what was measured of a step in the place of what was before."""
        self._change(scale, lambda section: section.update(steps=steps))

    def _change(self, scale: Scale, change: Callable[[dict[str, Any]], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "results.lock"):
            content = self.read()
            change(content.setdefault(scale.name, {}))
            write_whole(self.path, json.dumps(content, indent=1) + "\n", durable=True)
