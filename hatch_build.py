"""What rides in the wheel and the sdist besides the code: small weights, from wrn_hub/weights.json and their sizes."""
import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EACH, TOGETHER = 25_000_000, 60_000_000  # bytes: package indexes take 100 MB a file, and a download should be quick


def riding(root: Path) -> list[str]:
    """The weights that ride, as "arch.tag": of at most EACH bytes, smallest first, until TOGETHER is reached."""
    manifest = json.loads((root / "wrn_hub" / "weights.json").read_text(encoding="utf-8"))
    chosen, total = [], 0
    for size, name in sorted((facts["bytes"], name) for name, facts in manifest.items()):
        if size > EACH or total + size > TOGETHER:
            break
        chosen.append(name)
        total += size
    return chosen


def files(root: Path) -> list[str]:
    """What rides, below ``model_cards``: the weights, what they are, and what ``wrn_hub.table()`` tells of them."""
    each = ("model.safetensors", "config.json", "results.json", "args.json")
    return ["speed.json", "latency.json", *(f"{name}/{file}" for name in riding(root) for file in each)]


class CustomBuildHook(BuildHookInterface):
    """Puts them in: into the package of a wheel, beside it in an sdist; an editable install has the clone's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds."""
        if version == "editable":
            return
        below = "wrn_hub/pretrained" if self.target_name == "wheel" else "model_cards"
        root = Path(self.root)
        build_data["force_include"].update(
            {str(root / "model_cards" / file): f"{below}/{file}" for file in files(root)})
