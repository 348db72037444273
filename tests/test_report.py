"""What a training says: before it begins, while it runs in a terminal, a log file or a notebook, and in a library."""
import io
import logging
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tqdm.std import tqdm

from wrn_hub.training import report
from wrn_hub.training.report import Progress, duration, epoch_line, heard
from wrn_hub.training.settings import flip_of
from wrn_hub.training.trainer import train


@pytest.fixture
def unconfigured(monkeypatch):
    """A context with logging as a notebook finds it: pytest's handlers, which come after the fixtures, put away."""
    @contextmanager
    def unconfigured():
        with monkeypatch.context() as patch:
            patch.setattr(logging.getLogger(), "handlers", [])
            yield

    return unconfigured


def test_a_training_says_what_it_is_about_to_do(options, caplog):
    with caplog.at_level(logging.INFO):
        train(replace(options, epochs=1, freeze=True))
    text = next(text for text in caplog.messages if text.startswith("model "))
    rows = dict(line.split(None, 1) for line in text.splitlines())
    assert rows["model"].startswith("wrn_10_2, 302,") and rows["model"].endswith(" trained")
    assert rows["images"] == f"72 of {options.dataset} in 3 classes; measured on 21 of the test split"
    assert rows["pixels"] == "8x8; mirrored in every other epoch (--flip alternating)"
    assert rows["steps"] == "1 epoch of 6 steps, 12 images a step"
    assert rows["on"].startswith("CPU ") and "; 1 process; fp32" in rows["on"]
    assert rows["output"].startswith(f"{options.output}; ") and f"--output {options.output} --resume" in rows["output"]


def test_fewer_images_than_a_batch_are_told_as_they_are(options, caplog):
    with caplog.at_level(logging.INFO):
        train(replace(options, epochs=1, batch_size=100))
    assert "1 epoch of 1 step, 72 images a step" in caplog.text


def test_digits_and_letters_are_not_mirrored_and_the_option_is_named(options, caplog, colours, tmp_path):
    assert flip_of("auto", "mine", ("cat", "dog")) == "alternating" == flip_of("auto", "cifar10", ())
    assert flip_of("auto", "mnist", tuple("0123456789")) == "none" == flip_of("auto", "letters", tuple("abcdefghij"))
    assert flip_of("auto", "mine", ("0", "1", "2")) == "alternating"  # numbers of whatever they are
    assert flip_of("auto", "svhn", ()) == "none" and flip_of("random", "svhn", ()) == "random"
    for split in ("train", "test"):
        (tmp_path / "digits" / split).mkdir(parents=True)
        for digit in range(10):
            name = ("blue", "green", "red")[digit % 3]
            (tmp_path / "digits" / split / str(digit)).symlink_to(colours / split / name)
    with caplog.at_level(logging.INFO):
        train(replace(options, dataset=str(tmp_path / "digits"), epochs=1))
    assert "not mirrored, as digits and letters shouldn't be (--flip alternating does it)" in caplog.text


def test_without_a_terminal_an_epoch_says_where_it_is_now_and_then(options, caplog, monkeypatch):
    monkeypatch.setattr(report, "LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        train(replace(options, epochs=1))
    lines = [line for line in caplog.messages if line.startswith("epoch 1/1, step ")]
    assert [line.partition(":")[0] for line in lines] == [f"epoch 1/1, step {step}/6" for step in range(1, 6)]
    assert all("loss " in line and "images/s, " in line and line.endswith(" s left of it") for line in lines)


def test_in_a_notebook_the_bar_is_shown_though_nothing_is_a_terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(report, "tqdm", lambda *args, **kwargs: tqdm(*args, **kwargs, file=screen))
    for notebook, main, shown in ((True, True, True), (False, True, False), (True, False, False)):
        monkeypatch.setattr(report, "_NOTEBOOK", notebook)
        screen.truncate(0)
        assert list(Progress(iter("abc"), "epoch 1/2", 0, 3, main)) == ["a", "b", "c"]
        assert ("epoch 1/2" in screen.getvalue()) == shown


def test_lines_are_shown_where_nobody_configured_logging(options, unconfigured, capsys):
    with unconfigured():
        train(replace(options, epochs=1))
    said = capsys.readouterr().err
    assert "\nmodel   wrn_10_2, " in f"\n{said}" and "\nepoch 1/1: loss " in said
    log = logging.getLogger("wrn_hub")
    assert not log.handlers and log.level == logging.NOTSET


def test_whoever_configured_logging_is_heard(unconfigured, capsys):
    log = logging.getLogger("wrn_hub.training.trainer")
    with heard(False):
        log.info("of another process")
    logging.getLogger("wrn_hub.training").setLevel(logging.WARNING)
    try:
        with heard(True):
            log.info("not wanted")
    finally:
        logging.getLogger("wrn_hub.training").setLevel(logging.NOTSET)
    with unconfigured():
        logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))  # as a notebook of Colab's has one
        with heard(True):
            log.info("once")
    assert capsys.readouterr().err == "once\n"


def test_times_are_said_in_the_unit_that_one_waits_in():
    said = {0.2: "1 s", 119: "119 s", 121: "3 min", 7000: "117 min", 9000: "2.5 h"}
    assert {seconds: duration(seconds) for seconds in said} == said
    row = {"epoch": 3, "train_loss": 0.5, "train_accuracy": 0.25, "images_per_second": 99.6, "seconds": 12.2}
    assert epoch_line(row, "test", 30, 41.0) == (
        "epoch 3/30: loss 0.500, train accuracy 25.00%, 100 images/s, 12 s, about 41 s left")
    assert epoch_line(row | {"held_out_accuracy": 0.5}, "held_out", 3, 0.0).endswith("held-out accuracy 50.00%, "
                                                                                      "100 images/s, 12 s")
