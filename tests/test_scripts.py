"""The scripts as they are typed: what they print, and one line and exit code 2 for bad input."""
import csv
import io
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from forks import Fork
from PIL import Image

import wrn_hub
from wrn_hub.__main__ import main as command_line
from wrn_hub.commands import COMMANDS
from wrn_hub.commands.cli import EXTRAS, Parser, add_options, options_from
from wrn_hub.commands.train import main as train_command
from wrn_hub.errors import UserError
from wrn_hub.evaluation.predict import find_images
from wrn_hub.evaluation.results import Results
from wrn_hub.models.build import ModelSource, class_names
from wrn_hub.models.export import save_model
from wrn_hub.recipes import load_recipe, recipe_names
from wrn_hub.training.options import TrainOptions

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a script in this process; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: object) -> tuple[int, str, str]:
        (path,) = SCRIPTS.rglob(f"{script}.py")
        monkeypatch.setattr(sys, "argv", [path.name, *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def model(tmp_path) -> Path:
    """A net of three named classes in a folder, as training leaves it."""
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2", num_classes=3)
    return save_model(net, tmp_path / "model", classes=("cat", "dog", "bird"))


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.full((48, 60, 3), 90, np.uint8)).save(folder / "colour.png")
    Image.fromarray(np.full((31, 31), 40, np.uint8)).save(folder / "gray.jpg")
    Image.new("RGBA", (32, 32), (255, 0, 0, 100)).save(folder / "clear.png")
    return folder


def test_predict_passes_over_what_is_no_picture_in_a_folder(pictures):
    for name in ("film.mp4", "paper.pdf", "._colour.png"):
        (pictures / name).write_bytes(b"no picture")
    assert [path.name for path in find_images([pictures])] == ["clear.png", "colour.png", "gray.jpg"]


def test_predict_says_the_likeliest_classes_by_name(run, model, pictures):
    code, out, _ = run("predict", pictures, "--model", model, "--topk", 2, "--format", "json")
    said = json.loads(out)
    assert code == 0
    assert [Path(entry["image"]).name for entry in said] == ["clear.png", "colour.png", "gray.jpg"]
    assert all(len(entry["classes"]) == 2 and set(entry["classes"]) <= {"cat", "dog", "bird"} for entry in said)
    assert all(entry["probabilities"] == sorted(entry["probabilities"], reverse=True) for entry in said)

    _, out, _ = run("predict", pictures / "gray.jpg", "--model", model, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1, abs=1e-5)

    run("predict", pictures, "--model", model, "--output", "said.txt")
    assert "gray.jpg: " in Path("said.txt").read_text()


def test_evaluate_prints_and_writes_what_it_measured(run, model, tmp_path):
    colours = tmp_path / "data" / "test"
    for name in ("cat", "dog", "bird"):
        (colours / name).mkdir(parents=True)
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for number in range(3):
            picture = Image.fromarray(np.full((32, 32, 3), 50 * number, np.uint8))
            picture.save(colours / name / f"{number}.png")
            picture.save(tmp_path / "data" / "train" / name / f"{number}.png")
    arguments = ["--model", model, "--dataset", tmp_path / "data", "--output", "out"]
    code, out, _ = run("evaluate", *arguments)
    assert code == 0
    results = Results.read("out/results.json")
    assert results.dataset.images == 9 and results.dataset.name == "data"
    assert str(tmp_path) not in Path("out/results.json").read_text()
    assert f"top-1 {results.top1:.2%}" in out and "on corrupted copies of 9 images" in out
    assert results.top1 == pytest.approx(1 / 3)  # the classes look the same, so one guess an image is right in three
    assert results.top5 is None and results.precision == "fp32" and results.command.startswith("evaluate.py --model")


def test_finetune_starts_from_the_weights_and_counts_the_classes(run, model):
    code, out, err = run(
        "finetune", "--model", model, "--image-size", 8, "--crop-padding", 1, "--epochs", 1, "--batch-size", 500,
        "--output", "tuned", "--precision", "fp32")
    assert code == 0, err
    assert "test accuracy" in out
    tuned = timm.create_model("local-dir:tuned/model", pretrained=True)
    assert class_names(tuned)[:2] == ["aquatic_mammals", "fish"] and tuned.num_classes == 20


BAD = {
    "no such model": (["train", "--model", "wrn_28_100"], "no model of this name. Did you mean 'wrn_28_10'"),
    "a model as the paper writes it": (["train", "--model", "WRN-28-10"], "Did you mean 'wrn_28_10'?"),
    "a model as others write it": (["evaluate", "--model", "WideResNet-28-10.cifar10"], "Did you mean 'wrn_28_10'?"),
    "a dataset as papers write it": (["train", "--dataset", "CIFAR-10"], "Did you mean 'cifar10'?"),
    "no such tag": (["evaluate", "--model", "wrn_16_2.cifar1000"], "it has cifar10, cifar100, svhn"),
    "no such dataset": (["train", "--dataset", "cifar11"], "Did you mean 'cifar10'?"),
    "no such data folder": (["train", "--data-dir", "nowhere"], "nowhere: no such folder"),
    "no such option": (["train", "--epoch", "3"], "no option --epoch. Did you mean '--epochs'?"),
    "no number": (["train", "--epochs", "many"], "invalid int value: 'many'"),
    "a value out of range": (["finetune", "--epochs", "0"], "epochs = 0: allowed is 1 to 1000000"),
    "no such image": (["predict", "cat.jpg"], "cat.jpg: no such file or folder"),
    "a folder without a model": (["evaluate", "--model", "local-dir:."], "is not the folder of a model"),
    "not an argument of the net": (["train", "--model", "resnet18", "--dataset", "sample", "--block-drop-rate", "0.3"],
                                   "model resnet18 takes no argument 'block_drop_rate'"),
    "a crop larger than the image": (["train", "--dataset", "sample", "--image-size", "8", "--crop-padding", "8"],
                                     "crop padding 8: allowed are 0 to 7"),
    "a file in place of a folder": (["evaluate", "--output", __file__], "name the folder"),
    "a file above the folder": (["evaluate", "--output", f"{__file__}/out"], "lies below one; name the folder"),
    "a folder that nothing can be made in": (["evaluate", "--output", "/proc/self"], "can't be written to .*folder"),
    "fewer images than none": (["evaluate", "--corruption-images", "-1"], "allowed is 0"),
    "no folder to write to": (["predict", "cat.jpg", "--output", "no/said.txt"], "there is no folder no; make it"),
    "a folder to write to": (["predict", "cat.jpg", "--output", "."], "is a folder; name a file in it"),
    "a file without the marks of a table": (["list_models", __file__], "lacks the lines <!-- models -->"),
    "speeds of some nets in the place of all": (["measure_speed", "wrn_16_1"], "name another file with --output"),
    "a run that isn't finished": (["stage", "run", "wrn_16_2.cifar10"], "holds no finished model"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_line_and_exit_code_2(case, run, tmp_path):
    (script, *arguments), says = BAD[case]
    code, out, err = run(script, *arguments)
    line = err.strip().splitlines()[-1]
    assert code == 2 and out == "" and "Traceback" not in err
    assert line.startswith(f"{script}.py: ")

    assert re.search(says, line), line
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.fixture
def wrn_hub_command(monkeypatch, tmp_path, capsys):
    """Run ``wrn-hub`` in this process; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/wrn-hub", *map(str, arguments)])
        code = 0
        try:
            command_line()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_wrn_hub_alone_lists_its_commands_with_a_line_each(wrn_hub_command, arguments):
    code, out, err = wrn_hub_command(*arguments)
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].*[.]$", out, re.MULTILINE), name


def test_wrn_hub_tells_its_version(wrn_hub_command):
    assert wrn_hub_command("--version") == (0, f"wrn-hub {wrn_hub.__version__}\n", "")


@pytest.mark.parametrize("arguments, says", [
    (["trian"], "wrn-hub: no command 'trian'. Did you mean 'train'? (--help lists the commands)"),
    (["train", "--epoch", "3"],
     "wrn-hub train: no option --epoch. Did you mean '--epochs'? (--help lists the options)"),
    (["predict", "cat.jpg"], "wrn-hub predict: cat.jpg: no such file or folder"),
    (["publish", "--all", "--checkout", "."], "wrn-hub publish: . is not a clone of wrn_hub, which holds model_cards "
     "and wrn_hub/weights.json: name one with --checkout"),
    (["evaluate", "--all", "--checkout", "nowhere"], "wrn-hub evaluate: nowhere is not a clone of wrn_hub, which holds "
     "model_cards and wrn_hub/weights.json: name one with --checkout"),
])
def test_wrn_hub_says_what_is_wrong_in_one_line(wrn_hub_command, arguments, says):
    assert wrn_hub_command(*arguments) == (2, "", says + "\n")


def test_wrn_hub_predicts_as_the_script_does(wrn_hub_command, run, model, pictures):
    arguments = [pictures, "--model", model, "--format", "json"]
    assert wrn_hub_command("predict", *arguments) == run("predict", *arguments)


HEAVY = {"timm", "torch", "accelerate", "datasets"}  # which take seconds to import


def loaded_by(start: list) -> tuple[set[str], subprocess.CompletedProcess]:
    """What a fresh Python imports, at the top, for a command, and how that ended."""
    ended = subprocess.run([sys.executable, "-X", "importtime", *start], capture_output=True, text=True, check=False)
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}, ended


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_needs_neither_timm_nor_torch(command):
    for start in ([SCRIPTS / f"{command}.py"], ["-m", "wrn_hub", command]):
        loaded, ended = loaded_by([*start, "--help"])
        assert "wrn_hub" in loaded and not loaded & HEAVY
        assert ended.stdout.startswith("usage: ")


@pytest.mark.parametrize(("typed", "code", "says"), [
    ([], 0, "wrn-hub COMMAND [OPTIONS]"), (["--help"], 0, "wrn-hub COMMAND [OPTIONS]"), (["--version"], 0, "wrn-hub "),
    (["trian"], 2, "wrn-hub: no command 'trian'.")])
def test_the_list_of_the_commands_needs_neither_timm_nor_torch(typed, code, says):
    loaded, ended = loaded_by(["-m", "wrn_hub", *typed])
    assert "wrn_hub" in loaded and not loaded & HEAVY
    assert ended.returncode == code and (ended.stdout or ended.stderr.splitlines()[-1]).startswith(says)


def test_help_stands_in_groups_and_so_does_that_of_python():
    said = Parser(None)
    add_options(said, TrainOptions)
    text = said.format_help()
    for group, first, last in (
            ("what is trained", "--model", "--freeze"), ("on what", "--dataset", "--progressive-sizes"),
            ("what is kept", "--seed", "--allow-other-hardware")):
        section = text.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        assert f"  {first} " in section and f"  {last}" in section
    assert "    label_smoothing: label smoothing (default 0.1)" in TrainOptions.__doc__
    assert all(f"  {name}: " in TrainOptions.__doc__ for name in TrainOptions.__dataclass_fields__)


def test_help_imports_hardly_more_than_the_models(tmp_path):
    code = (
        "import sys, timm; before = set(sys.modules)\n"
        "from wrn_hub.__main__ import main\n"
        "for command in ([], ['train', '--help'], ['finetune', '--help'], ['export', '--help']):\n"
        "    sys.argv = ['wrn-hub', *command]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before}, file=sys.stderr)")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ended.stderr.split())
    assert "wrn_hub" in loaded
    assert not loaded & {"accelerate", "datasets", "pyarrow", "matplotlib", "starlette", "onnxruntime", "jinja2"}


def test_a_process_that_is_in_trouble_alone_says_which_it_is(run, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    code, _, err = run("train", "--data-dir", "nowhere")
    assert code == 2 and err.startswith("train.py (process 3): ")


@pytest.mark.parametrize("allocate", [
    lambda *_: torch.empty(2**60, dtype=torch.uint8), lambda *_: np.empty(2**50)], ids=["torch", "numpy"])
def test_out_of_memory_is_one_line_in_every_command(allocate, run, model, monkeypatch):
    """Whether or not what runs out of it thought of that."""
    monkeypatch.setattr("wrn_hub.evaluation.exported.exported", allocate)
    code, _, err = run("export", "--model", model)
    assert code == 2 and re.fullmatch(r"export\.py: out of memory \(.*allocate.*\): take a smaller model.*\n", err)
    monkeypatch.setattr("wrn_hub.evaluation.exported.exported", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent"):  # another fault stays what it is
        run("export", "--model", model)


def test_an_image_that_does_not_decode_is_named_and_nothing_is_written(run, model, pictures):
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    code, _, err = run("predict", pictures, "--model", model, "--output", "said.csv", "--format", "csv")
    assert code == 2 and "broken.png can't be decoded" in err
    assert not Path("said.csv").exists()


def test_weights_of_another_net_are_refused(run, model, pictures):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architecture": "wrn_16_1"}))
    code, _, err = run("predict", pictures, "--model", model)
    assert code == 2 and len(err.strip().splitlines()) == 1 and "model.safetensors lacks stages.0.1" in err


def test_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(tmp_path):
    """A limit on the size of a file stands in for a full disk: both make a write fail in the middle."""
    limit = 200_000  # smaller than a checkpoint of wrn_10_2, larger than everything before it
    train = str(SCRIPTS / "train.py")
    code = (f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
            f"sys.argv[0] = {train!r}; runpy.run_path({train!r}, run_name='__main__')")
    process = Fork(
        "-c", code, "--model", "wrn_10_2", "--dataset", "sample", "--image-size", "4", "--crop-padding", "1",
        "--batch-size", "1000", "--epochs", "1", "--output", tmp_path / "run", WRN_HUB_CACHE=str(tmp_path / "cache"))
    assert process.wait() == 2, process.err()
    line = process.err().splitlines()[-1]
    assert line.startswith(f"train.py: {tmp_path}/run/checkpoints/epoch-") and "Traceback" not in process.err()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("script, package, extra", [
    ("hub.py", "uvicorn", "hub"),
    ("make_cards.py", "matplotlib", "cards"),
    ("publish.py --all", "matplotlib", "cards"),
    ("export.py", "onnx", "export"),
    ("export.py", "onnxscript", "export"),
])
def test_a_package_of_an_extra_is_named_with_it(script, package, extra):
    name, *arguments = script.split()
    (path,) = SCRIPTS.rglob(name)
    code = (f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = {[name, *arguments]!r}; "
            f"runpy.run_path({str(path)!r}, run_name='__main__')")
    ended = Fork("-c", code)
    assert ended.wait() == 2
    assert ended.err() == f"{name}: this needs {package}: pip install 'wrn-hub[{extra}]', in a clone '.[{extra}]'\n"
    extras = tomllib.loads((SCRIPTS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, named in EXTRAS.items():
        assert any(entry.startswith(module.replace("markdown_it", "markdown-it-py")) for entry in extras[named])


def test_class_names_come_from_the_config_or_imagenet_or_are_numbers():
    assert class_names(timm.create_model("wrn_16_1.cifar10"))[:2] == ["airplane", "automobile"]
    assert class_names(timm.create_model("wrn_16_1.cifar10", num_classes=3)) == ["0", "1", "2"]
    assert class_names(timm.create_model("wrn_18_2", device="meta"))[0].startswith("tench")


def test_a_model_is_named_by_name_hub_id_or_folder(model):
    assert ModelSource.parse("wrn_28_10.cifar100").size == 32
    assert ModelSource.parse(str(model)).name == f"local-dir:{model}"
    for run in (str(model.parent), f"local-dir:{model.parent}"):  # which holds it in model/
        assert ModelSource.parse(run).name == f"local-dir:{model}"


def test_every_recipe_is_settings_of_the_trainer_and_states_its_command():
    for name in recipe_names():
        recipe = load_recipe(name, TrainOptions)
        TrainOptions(**recipe.options)
        assert recipe.source and recipe.cost and recipe.accuracy
        command = recipe.command.removeprefix("accelerate launch scripts/train.py ").split()
        parser = Parser(None)
        parser.add_argument("--recipe", choices=(name,), required=True)
        add_options(parser, TrainOptions, recipe.options)
        options = options_from(TrainOptions, parser.parse_args(command))
        assert vars(options).items() >= recipe.options.items() and timm.is_model(options.model)


def test_a_recipe_may_stand_on_another():
    svhn, paper = (load_recipe(name, TrainOptions).options for name in ("paper_svhn", "paper"))
    assert (svhn["epochs"], svhn["decay_at"], svhn["std"]) == (160, (80, 120), (1.0, 1.0, 1.0))
    assert svhn["decay_norm"] and svhn["schedule"] == paper["schedule"] == "step"


def test_the_papers_recipe_says_what_it_sets_what_it_costs_and_what_to_expect(run, tmp_path):
    code, out, _ = run("train", "--recipe", "paper", "--show")
    lines = dict(line.split(None, 1) for line in out.splitlines()[1:])
    assert code == 0 and out.startswith("paper\n")
    assert "arXiv:1605.07146" in lines["source"] and "4.00 % error" in lines["accuracy"]
    assert "a quarter of an hour" in lines["cost"] and "--recipe paper" in lines["command"]
    assert lines["--epochs"].split() == ["200", "30"] and lines["--decay-at"].split() == ["60,120,160"]
    assert run("train", "--show")[1].count("  command   accelerate launch ") == len(recipe_names())
    assert not list(tmp_path.iterdir())


def test_another_schedule_takes_the_place_of_the_recipes_with_one_option(monkeypatch):
    told = {}

    def train(options, recipe):
        told.update(vars(options), recipe=recipe)
        raise UserError("enough")

    monkeypatch.setattr("wrn_hub.training.trainer.train", train)
    for arguments, schedule, decay_at in (
            (["--schedule", "cosine"], "cosine", ()), ([], "step", (60, 120, 160)),
            (["--schedule", "step"], "step", (60, 120, 160)), (["--decay-at", "30"], "step", (30,))):
        monkeypatch.setattr(sys, "argv", ["train.py", "--recipe", "paper", *arguments])
        with pytest.raises(UserError, match="enough"):
            train_command()
        assert (told["recipe"], told["schedule"], told["decay_at"]) == ("paper", schedule, decay_at)
        assert told["lr"] == 0.1


def test_a_recipe_is_overridden_on_the_command_line(run, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'source = "me"\ncost = "none"\naccuracy = "none"\ncommand = "train"\n'
        '[options]\nepochs = 9\nlr = 0.01\nprogressive_sizes = [4, 8]\n')
    code, _, err = run(
        "train", "--recipe", "mine.toml", "--model", "wrn_10_2", "--dataset", "sample", "--image-size", 8,
        "--epochs", 2, "--crop-padding", 1, "--batch-size", 1000, "--output", "run")
    assert code == 0, err
    settings = json.loads(Path("run/args.json").read_text())
    assert settings["recipe"] == "mine.toml" and set(TrainOptions.__dataclass_fields__) <= set(settings)
    assert (settings["epochs"], settings["lr"], settings["progressive_sizes"]) == (2, 0.01, [4, 8])


def test_a_recipe_with_an_unknown_setting_is_refused(run, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'source = "me"\ncost = "none"\naccuracy = "none"\ncommand = "train"\n[options]\nepoch = 9\n')
    assert "no setting 'epoch'. Did you mean 'epochs'?" in run("train", "--recipe", "mine.toml")[2]
    assert "allowed are" in run("train", "--recipe", "papr")[2]
