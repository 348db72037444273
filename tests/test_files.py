"""One reader a format, one writer, one lock: what they promise, and what they say of a bad file."""
import os
import resource
import stat
import subprocess
import sys
import threading

import pytest
import torch
from safetensors.torch import save_file

from wrn_hub.errors import UserError
from wrn_hub.files import locked, read_csv, read_json, read_tensors, read_text, read_toml, write_whole


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "new" / "folder" / "text.json"
    write_whole(path, '{"name": "Müller"}\r\n', durable=True)
    assert path.read_bytes() == '{"name": "Müller"}\r\n'.encode()
    assert read_json(path) == {"name": "Müller"}
    assert list(path.parent.iterdir()) == [path]  # nothing is left beside it


def test_a_file_keeps_its_rights_and_a_new_one_gets_the_usual(tmp_path):
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_text("old")
    kept.chmod(0o640)
    write_whole(kept, "new")
    write_whole(new, b"new")
    (tmp_path / "usual").touch()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert new.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    write_whole(link, "text")
    assert link.is_symlink() and (tmp_path / "there" / "file").read_text() == "text"


def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", "/dev/null"):
        before = os.stat(path).st_mode
        with pytest.raises(UserError, match=f"{path} is not a regular file"):
            write_whole(path, "text")
        assert os.stat(path).st_mode == before


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half a \ud800")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [2_000, 200_000])  # found when the file is closed, and when it is written
def test_a_full_disk_names_the_file(tmp_path, size):
    """A limit on the size of a file stands in for it: both make a write fail in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(OSError) as error:
            write_whole(tmp_path / "file", bytes(size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "file") and not list(tmp_path.iterdir())


def test_writers_of_the_same_file_do_not_meet(tmp_path):
    path, text = tmp_path / "file", "x" * 100_000
    writers = [threading.Thread(target=lambda: [write_whole(path, text) for _ in range(20)]) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() == text and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("read", "content", "said"), [
    (read_text, b"\xff\xfe", "not a text file in UTF-8"),
    (read_json, b"{", "not JSON"),
    (read_json, b"[" * 100_000, "not JSON"),
    (read_json, b"[1]", "holds a list, needed is a dict"),
    (read_json, b"\xff", "not a text file in UTF-8"),
    (read_toml, b"a =", "not TOML"),
    (read_csv, b"a\n" + 200_000 * b"1", "not CSV"),
    (read_tensors, b"", "damaged, or not a safetensors file"),
    (read_tensors, b"PK\x03\x04" + bytes(100), "damaged, or not a safetensors file"),
])
def test_a_bad_file_is_named_in_one_line(tmp_path, read, content, said):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_text, read_json, read_toml, read_csv, read_tensors])
def test_what_is_not_there_or_is_a_folder(tmp_path, read):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=f"^{path}: "):
            read(path)


def test_a_cut_tensor_file_is_damaged(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(100)}, path)
    assert torch.equal(read_tensors(path)["weight"], torch.ones(100))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged"):
        read_tensors(path)


def test_a_lock_tells_its_holder_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys; from wrn_hub.files import locked\n"
        f"with locked({str(path)!r}): print('held', flush=True); sys.stdin.read()")
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {holder.pid} on .+ since "), locked(path, wait=False):
        pass
    holder.kill()
    holder.wait()
    with locked(path, wait=False):
        pass
    with locked(path, wait=False):
        pass
