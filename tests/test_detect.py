"""Detection with a Wide ResNet: the example as it stands, on tiny images."""
import math
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent.parent / "scripts" / "examples" / "detect.py"


@pytest.mark.parametrize("name", ["wrn_50_2", "wrn_34_2"])
def test_three_steps_of_faster_rcnn(name):
    losses = runpy.run_path(str(EXAMPLE))["main"](name)
    assert len(losses) == 3 and all(math.isfinite(loss) for loss in losses)
