"""The house's own rules: short functions, declared dependencies, facts that stand in several files and agree."""
import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import wrn_hub
from wrn_hub.commands import COMMANDS
from wrn_hub.facts import ISSUES, REPOSITORY
from wrn_hub.version import __version__

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def parsed(folder: str) -> dict[str, ast.Module]:
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in (ROOT / folder).rglob("*.py")}


MODULES = parsed("wrn_hub")

LONGEST = 80  # lines of a function without its docstring


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_no_function_is_longer_than_one_reads_at_once():
    lengths = {
        f"{path}:{node.name}": length(node) for path, tree in MODULES.items() for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert len(lengths) > 300
    assert [name for name, lines in lengths.items() if lines > LONGEST] == []


# Who writes without files.write_whole, and why nothing half-written stays under a final name.
WRITERS = {
    "wrn_hub/files.py": "is the writer, and holds the lock file open",
    "wrn_hub/data/cache.py": "streams arrays as large as the memory into a temporary folder, and renames them",
    "wrn_hub/models/onnx.py": "hands a file to onnxruntime in a temporary folder",
    "wrn_hub/evaluation/memory.py": "writes to Linux's /proc",
}


def opened(call: ast.Call) -> tuple[str, bool, bool] | None:
    """(mode, whether its encoding is said, whether it writes) of a call that opens, reads or writes a file, else None.
    """
    function, named = call.func, {word.arg: word.value for word in call.keywords}
    name = getattr(function, "attr", "") or getattr(function, "id", "")
    if name in ("read_text", "write_text", "write_bytes", "read_bytes"):
        if name == "read_text" and isinstance(function, ast.Name):  # the reader of wrn_hub.files
            return None
        return ("rb" if "bytes" in name else "r"), "encoding" in named, name.startswith("write")
    if name != "open" or ast.unparse(function) in ("Image.open", "os.open", "tarfile.open"):
        return None
    place = 1 if isinstance(function, ast.Name) else 0  # open(path, mode), path.open(mode)
    mode = named["mode"] if "mode" in named else call.args[place] if len(call.args) > place else ast.Constant("r")
    assert isinstance(mode, ast.Constant), f"line {call.lineno}: a mode that nobody can read here"
    return mode.value, "encoding" in named, bool(set(mode.value) & set("wax+"))


@pytest.mark.parametrize(("line", "found"), [
    ("open(path)", ("r", False, False)), ("open(path, 'xb')", ("xb", False, True)),
    ("path.open('a', encoding='utf-8')", ("a", True, True)), ("path.open(mode='rb')", ("rb", False, False)),
    ("path.write_text(text)", ("r", False, True)), ("path.write_bytes(data)", ("rb", False, True)),
    ("read_text(path)", None), ("Image.open(path)", None), ("print(path)", None),
])
def test_how_a_file_is_opened_is_seen(line, found):
    (statement,) = ast.parse(line).body
    assert opened(statement.value) == found


def test_text_is_utf8_on_every_machine_and_files_are_written_whole():
    calls = [
        (path, node.lineno, how) for path, tree in (MODULES | parsed("scripts")).items() for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (how := opened(node))]
    assert [f"{path}:{line}" for path, line, (mode, encoded, _) in calls if "b" not in mode and not encoded] == []
    assert {path for path, _, (_, _, writes) in calls if writes} == set(WRITERS)


# What is imported under another name than it is installed by, and what comes with another package.
PACKAGES = {"PIL": "pillow", "yaml": "pyyaml", "markdown_it": "markdown-it-py", "huggingface_hub": "huggingface-hub"}


def test_every_package_that_is_imported_is_declared():
    declared = {
        re.match(r"[\w-]+", entry)[0] for entries in
        [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()] for entry in entries}
    imported = set()
    for tree in MODULES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module)
    packages = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"wrn_hub"}
    assert {"torch", "timm", "PIL"} <= packages
    assert {PACKAGES.get(name, name) for name in packages} <= declared


def test_a_script_is_the_few_lines_that_call_a_command():
    scripts = {path.stem: path.read_text() for path in (ROOT / "scripts").glob("*.py")}
    assert sorted(scripts) == sorted(COMMANDS)
    for name, text in scripts.items():
        assert f"from wrn_hub.commands.{name} import main" in text and len(text.splitlines()) < 10


def test_every_script_that_is_named_is_there():
    files = [path for part in ("wrn_hub", "scripts") for kind in ("py", "jinja", "md", "toml")
             for path in (ROOT / part).rglob(f"*.{kind}")]
    named = {name for path in [*files, *ROOT.glob("*.md"), ROOT / "Makefile"]
             for name in re.findall(r"\bscripts/[a-z_/]+\.[a-z]+\b", path.read_text(encoding="utf-8"))}
    assert {"scripts/train.py", "scripts/maintain/zoo.py", "scripts/accelerate/eight_gpus.yaml"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", ".github/workflows/ci.yml"])
def test_the_oldest_python_is_the_one_that_the_package_asks_for(file):
    assert PROJECT["requires-python"].removeprefix(">=") in (ROOT / file).read_text()


def test_the_oldest_torch_and_timm_that_are_tested_are_those_that_the_package_asks_for():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    for package in ("torch", "timm"):
        (entry,) = (entry for entry in PROJECT["dependencies"] if re.match(rf"{package}\b", entry))
        assert f"{package}=={re.search(r'>=([0-9.]+)', entry)[1]}" in workflow


def test_the_version_is_told_once_and_the_changelog_begins_with_it():
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_project_has_one_address():
    assert (PROJECT["urls"]["Homepage"], PROJECT["urls"]["Issues"]) == (REPOSITORY, ISSUES)
    assert f"repository-code: {REPOSITORY}\n" in (ROOT / "CITATION.cff").read_text()


def test_what_the_package_offers_comes_when_it_is_asked_for():
    for name in wrn_hub.__all__:
        assert getattr(wrn_hub, name).__doc__ and name in dir(wrn_hub)
    with pytest.raises(AttributeError, match="no attribute 'widen'"):
        wrn_hub.widen  # noqa: B018
