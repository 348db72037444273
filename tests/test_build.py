"""C++ is compiled once for a machine, whatever befalls the cache."""
import multiprocessing
import os
from pathlib import Path

import pytest
from forks import Fork

from wrn_hub.errors import UserError
from wrn_hub.kernels import build

ROOT = Path(__file__).resolve().parent.parent
needs_compiler = pytest.mark.skipif(not Path(build._compiler()[0]).exists(), reason="no C++ compiler")


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return 42; }\n')
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("WRN_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "cache" / "kernels"


def made(source: Path) -> int:
    """What a process that has just begun makes of it."""
    build.library.cache_clear()
    return build.library(source).answer()


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes a script the compiler; it notes down each of its calls."""
    def write(script: str, name: str = "compiler") -> Path:
        path, calls = tmp_path / name, tmp_path / f"{name} calls"
        path.write_text(f"#!/bin/sh\necho >> '{calls}'\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", f"'{path}'")
        return calls

    return write


@needs_compiler
def test_compiled_once_then_taken_from_the_cache(source, cache, compiler):
    calls = compiler('exec c++ "$@"')
    assert [made(source) for _ in range(3)] == [42] * 3
    assert len(list(cache.iterdir())) == 1 and len(calls.read_text().splitlines()) == 1


@needs_compiler
def test_the_kernels_need_no_compiler_in_a_second_process(cache):
    build.library.cache_clear()
    build.library(ROOT / "wrn_hub" / "kernels" / "winograd.cpp")
    code = ("import torch; from wrn_hub.kernels.winograd import computes, winograd; "
            "winograd(torch.nn.Conv2d(16, 16, 3, padding=1)); print(computes(torch.float32))")
    told = Fork("-c", code, CXX="/bin/false")
    told.wait()
    assert (told.out(), told.err()) == ("True\n", "")


@needs_compiler
@pytest.mark.parametrize("command", ["/bin/false", "/bin/true", "no-such-compiler", "'unbalanced", "~nobody/c++", "/"])
def test_without_a_compiler_the_library_of_another_serves(command, source, cache, monkeypatch):
    with monkeypatch.context() as without:
        without.setenv("CXX", command)
        with pytest.raises(UserError, match=r"^answer: .*(in|name another in|variable) CXX|can be loaded"):
            made(source)
    made(source)
    monkeypatch.setenv("CXX", command)
    assert made(source) == 42


@needs_compiler
def test_another_compiler_or_a_new_version_of_it_makes_its_own(source, cache, compiler):
    for script, name in (("", "one"), ("# newer", "one"), ("", "two")):
        compiler(f'{script}\nexec c++ "$@"', name)
        assert made(source) == 42
    assert len(list(cache.iterdir())) == 3


@needs_compiler
def test_a_new_source_or_another_cpu_makes_its_own(source, cache, monkeypatch):
    assert made(source) == 42
    source.write_text('extern "C" int answer() { return 43; }\n')
    assert made(source) == 43
    monkeypatch.setattr(build, "cpu_features", lambda: {"amx_bf16": True})
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(UserError, match="can't compile"):
        made(source)


@needs_compiler
@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:1000], lambda content: content[:-1], lambda content: content + b"\0",
    lambda content: b"\0" * len(content), lambda content: content.replace(b"\x2a", b"\x2b", 1)])
def test_a_damaged_library_is_made_again(damage, source, cache, compiler, caplog):
    calls = compiler('exec c++ "$@"')
    made(source)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(content))
    caplog.set_level("INFO")
    assert made(source) == 42 and "is damaged; compiling again" in caplog.text
    assert path.read_bytes() == content and len(calls.read_text().splitlines()) == 2


@needs_compiler
def test_a_whole_file_that_is_no_library_is_passed_over(source, cache):
    made(source)
    (path,) = cache.iterdir()
    path.unlink()
    path.with_name(path.name.replace(path.stem.split("-")[3], build._hash(b"text"))).write_bytes(b"text")
    assert made(source) == 42


@needs_compiler
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_nobody_elses_library_is_loaded(source, cache, compiler):
    calls = compiler('exec c++ "$@"')
    made(source)
    (path,) = cache.iterdir()
    os.chown(path, 12345, 12345)
    assert made(source) == 42 and len(calls.read_text().splitlines()) == 2
    assert path.stat().st_uid == 0


@needs_compiler
@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache", "~nosuch/cache"])
def test_where_nothing_can_be_written_it_is_compiled_all_the_same(place, source, monkeypatch, caplog):
    monkeypatch.setenv("WRN_HUB_CACHE", place)
    assert made(source) == 42
    assert caplog.text.count("compiled anew in every process: can't write to the cache") == 1
    assert "WRN_HUB_CACHE names another folder" in caplog.text


@needs_compiler
def test_processes_that_compile_at_once_do_not_meet(source, cache):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(made, [source] * 3, chunksize=1) == [42] * 3
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("script, says", [
    (r"printf 'F\374r diese Datei\nnicht' >&2; exit 1", r"can't compile its kernels \(F�r diese Datei\)"),
    (r"printf '\n\n' >&2; exit 1", r"can't compile its kernels \(RuntimeError\)"),
    ("kill -9 $$", r"can't compile its kernels"), ("exit 0", "made nothing that can be loaded"),
    ('while [ "$1" != -o ]; do shift; done; echo text > "$2"', "made nothing that can be loaded")])
def test_what_a_compiler_says_comes_in_one_line(script, says, source, cache, compiler):
    compiler(script)
    with pytest.raises(UserError, match=says) as error:
        made(source)
    assert "\n" not in str(error.value)
    assert not cache.exists() or "text" in script


def test_a_file_that_is_no_program_is_no_compiler(source, cache, tmp_path, monkeypatch):
    (tmp_path / "c++").write_bytes(b"\x00\x01")
    (tmp_path / "c++").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    with pytest.raises(UserError, match=r"^answer: .*Exec format error"):
        made(source)
