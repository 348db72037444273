"""The benchmark: every section as it is run, its file, its tables and its picture. No time is asserted."""
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

from wrn_hub.benchmark.inference import freezes, pytorchcv_net
from wrn_hub.benchmark.measure import Rival, paired_ratio, race, steps_for, training_flops
from wrn_hub.benchmark.options import BenchmarkOptions
from wrn_hub.benchmark.report import Benchmark, markdown, readme_section
from wrn_hub.cards.plots import digest_of
from wrn_hub.errors import UserError
from wrn_hub.evaluation.memory import peak_memory
from wrn_hub.kernels.winograd import computes
from wrn_hub.models.build import compiled
from wrn_hub.models.wide_resnet import wide_resnet
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import uses_winograd

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "benchmark.py"
TINY = ["--quick", "--model", "wrn_10_2", "--batch-size", "4", "--batch-sizes", "1,2", "--image-size", "8",
        "--workers", "1"]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
        code = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


def test_all_sections_are_measured_and_told(run):
    Path("speed").mkdir()
    Path("speed/README.md").write_text("before\n<!-- speed -->\n<!-- /speed -->\nafter\n")
    code, out, err = run(*TINY, "--precision", "bf16", "--output", "speed/tiny.json", "--readme", "speed/README.md")
    assert code == 0, err
    benchmark = Benchmark.read(Path("speed/tiny.json"))
    assert out.strip() == markdown(benchmark).strip()
    assert benchmark.settings["precision"] == "bf16" and "--batch-sizes 1,2" in benchmark.command
    assert not {"", None} & {benchmark.hardware, benchmark.date, benchmark.versions["torch"]}

    train = benchmark.sections["train"]
    assert [row["name"] for row in train["rows"]] == [
        "trainer", "bare step, bf16, channels_last",
        *(["bare step, bf16, channels_last, Winograd"] if uses_winograd(TrainOptions(), "bf16", CPU) else []),
        "bare step, fp32, channels_last", "bare step, fp32, NCHW",
        "plain PyTorch loop", "timm's loop", "timm's loop, bf16, channels_last"]
    rows = {row["name"]: row for row in train["rows"]}
    assert rows["plain PyTorch loop"]["ratio"] == 1
    for row in train["rows"]:
        assert len(row["seconds"]) == 1 and min(row["seconds"]) > 0 and row["share_of_matmul"] > 0
        assert row["images_per_second"] == pytest.approx(4 / row["seconds"][0])
        assert row["ratio"] == pytest.approx(rows["plain PyTorch loop"]["seconds"][0] / row["seconds"][0])
    assert train["trainer_adds"] == pytest.approx(
        rows["trainer"]["seconds"][0] / rows[train["trainer_like"]]["seconds"][0] - 1)

    batches = benchmark.sections["inference"]["batches"]
    assert [batch["batch_size"] for batch in batches] == [1, 2]
    assert [row["name"] for row in batches[0]["rows"]] == [
        "fp32, NCHW", "fp32, channels_last", "fp32, channels_last, folded",
        *(["fp32, channels_last, folded, Winograd"] if computes(torch.float32) else []),
        "bf16, channels_last", "bf16, channels_last, folded",
        *(["bf16, channels_last, folded, Winograd"] if computes(torch.bfloat16) else []),
        "onnxruntime, fp32", "onnxruntime, int8"]

    data = benchmark.sections["data"]
    assert [row["name"] for row in data["rows"]] == ["from files", "in memory", "timm's create_loader"]
    assert data["rows"][-1]["ratio"] == 1 and data["workers"] == 1

    axes = {axis["axis"]: axis["points"] for axis in benchmark.sections["growth"]["axes"]}
    assert set(axes) == {"width", "depth", "batch_size", "images"}
    for points in axes.values():
        assert len(points) == 4 and points[0]["time_ratio"] == points[0]["flops_ratio"] == 1
        assert points[-1]["flops_ratio"] > 2

    assert digest_of(Path("speed/tiny.png")) == digest_of(Path("speed/tiny.svg")) is not None
    readme = Path("speed/README.md").read_text()
    assert readme == f"before\n<!-- speed -->\n{readme_section(Path('speed'))}<!-- /speed -->\nafter\n"
    assert "[![Speed on " in readme and benchmark.command in readme


def test_images_from_files_are_made_as_fast_as_by_timm():
    """As it was measured and stands in the benchmarks' README."""
    benchmark = Benchmark.read(ROOT / "model_cards" / "benchmarks" / "cpu_data.json")
    ratios = {row["name"]: row["ratio"] for row in benchmark.sections["data"]["rows"]}
    assert ratios["timm's create_loader"] == 1 and ratios["from files"] >= 0.95


def test_one_section_alone(run):
    code, out, _ = run(
        *TINY[:-6], "--batch-sizes", "1", "--sections", "inference", "--image-size", "32", "--output", "tiny.json")
    assert code == 0 and "Training steps" not in out
    benchmark = Benchmark.read(Path("tiny.json"))
    assert list(benchmark.sections) == ["inference"]
    assert benchmark.sections["inference"]["batches"][0]["rows"][-3]["name"] == "pytorchcv, fp32, NCHW"

    pictures = Path("tiny.png"), Path("tiny.svg")
    drawn = [path.read_bytes() for path in pictures]
    for path in pictures:
        path.unlink()
    assert run("--tables", "tiny.json")[1] == out
    assert [path.read_bytes() for path in pictures] == drawn


def test_rivals_take_turns():
    order = []

    def steps(name):
        while True:
            order.append(name)
            yield

    seconds = race([Rival("a", steps("a")), Rival("b", steps("b"))], {"a": 2, "b": 1}, rounds=2, device=CPU)
    assert "".join(order) == "aaabb" * 3  # a step that isn't timed before each turn, a round to warm up
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_those_of_each_round():
    """A machine twice as slow in one round changes nothing."""
    assert paired_ratio([2.0, 4.0, 2.0], [1.0, 2.0, 1.0]) == 2.0


def test_turns_last_as_long_as_asked(monkeypatch):
    monkeypatch.setattr("wrn_hub.benchmark.measure.clock", lambda device, work: (work(), 0.25)[1])
    assert steps_for(Rival("a", iter([None] * 9)), 1.1, CPU) == 5
    assert steps_for(Rival("a", iter([None] * 9)), 0.0, CPU) == 1


def test_operations_of_a_step_are_three_forward_passes():
    """The backward pass costs twice the forward one, but for the gradient of the images."""
    gmacs = 0.04448  # of wrn_10_2, as the README has it
    counted = training_flops(lambda device: wide_resnet(10, 2, device=device), 32)
    stem = 2 * 32 * 32 * 16 * 27
    assert counted == pytest.approx(3 * 2e9 * gmacs - stem, rel=1e-3)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_peak_memory_counts_what_was_freed_again():
    assert 60e6 < peak_memory(CPU, lambda: torch.ones(16_000_000).sum()) < 90e6


def test_pytorchcv_is_compared_where_it_has_the_net():
    theirs = pytorchcv_net("wrn_16_2.cifar100", 32)
    assert sum(p.numel() for p in theirs.parameters()) == pytest.approx(691_674, rel=0.01)
    assert pytorchcv_net("wrn_16_2", 16) is None
    assert pytorchcv_net("preresnet_164", 32) is pytorchcv_net("resnet18", 32) is None


def test_torch_compile_with_freezing_is_a_rival_where_there_is_a_compiler(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setenv("CXX", sys.executable)
    assert freezes(CPU, quick=False) and not caplog.text
    assert not freezes(CPU, quick=True) and "left out of a rehearsal" in caplog.text
    monkeypatch.setenv("CXX", "none++")
    assert not freezes(CPU, quick=False) and "left out: no C++ compiler (none++)" in caplog.text


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_frozen_net_answers_as_it_did(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    net, images = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(net, "freezing")(images), net(images))


@pytest.mark.parametrize(("arguments", "says"), [
    (["--model", "wrn_16_20"], "no model of this name. Did you mean"),
    (["--rounds", "0"], "rounds = 0: allowed is 1 to"),
    (["--seconds", "nan"], "seconds = nan: allowed is 0 to"),
    (["--image-size", "1" + "0" * 30], "image_size = 1000000000000000000000000000000: allowed is 8 to 10000"),
    (["--batch-sizes", "8,0"], "batch_sizes = 8,0: allowed are numbers from 1"),
    (["--section", "train"], "no option --section. Did you mean '--sections'?"),
    (["--tables", "none.json"], "none.json: No such file or directory; measure with"),
])
def test_bad_input_ends_in_one_line(run, arguments, says):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and says in err.strip().splitlines()[-1] and "Traceback" not in err


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema_version": 0, "model": "wrn_16_2"}))
    with pytest.raises(UserError, match=re.escape("old.json: not version 1 of a benchmark")):
        Benchmark.read(path)


def test_choices_left_to_the_machine():
    left = BenchmarkOptions()
    assert left.resolved(CPU, "bf16", 2).precision == "bf16" and left.resolved(CPU, "fp32", 2).workers == 2
    assert left.resolved(torch.device("cuda"), "bf16", 64).workers == 16
    assert max(left.resolved(torch.device("cuda"), "bf16", 64).batch_sizes) > max(
        left.resolved(CPU, "fp32", 2).batch_sizes)


def test_every_rival_has_its_own_precision_whatever_ran_before():
    def steps():
        while True:
            seen.append(torch.backends.cudnn.allow_tf32)
            yield

    seen: list[bool] = []
    before = torch.backends.cudnn.allow_tf32
    race([Rival("loop", steps(), tf32=True), Rival("fp32", steps())], {"loop": 1, "fp32": 1}, 1, CPU)
    assert seen == [True, True, False, False] * 2
    assert torch.backends.cudnn.allow_tf32 == before
