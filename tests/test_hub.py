"""The local hub, asked by the real clients: huggingface_hub here, timm and transformers in processes of their own."""
import gzip
import html
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest
import timm
import torch
from hub_server import make_model, served
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from PIL import Image

import wrn_hub
from wrn_hub.cards.sample import SAMPLE, sample_of
from wrn_hub.cards.timm_card import PHOTOGRAPH
from wrn_hub.errors import UserError
from wrn_hub.facts import DATASETS
from wrn_hub.hub import serve as serve_module
from wrn_hub.hub.rows import rows
from wrn_hub.hub.serve import application, serve
from wrn_hub.hub.store import FolderStore, NotFound
from wrn_hub.models.export import save_model

ROOT = Path(__file__).resolve().parent.parent
NAME = "wrn_16_2.cifar10"


@pytest.fixture(scope="module")
def endpoint():
    with served(application(FolderStore(ROOT / "model_cards"))) as address:
        yield address


@pytest.fixture
def api(endpoint) -> HfApi:
    return HfApi(endpoint=endpoint, token=False)


def test_the_client_lists_and_describes_the_models(api):
    assert f"wrn-hub/{NAME}" in {model.id for model in api.list_models(author="wrn-hub")}
    found = api.model_info(f"wrn-hub/{NAME}", files_metadata=True)
    assert found.pipeline_tag == "image-classification" and found.card_data.license == "apache-2.0"
    weights = next(file for file in found.siblings if file.rfilename == "model.safetensors")
    assert weights.lfs.sha256 == wrn_hub.weights.MANIFEST[NAME]["sha256"]
    assert {"config.json", "README.md"} <= {entry.path for entry in api.list_repo_tree(f"wrn-hub/{NAME}")}
    assert api.list_repo_refs(f"wrn-hub/{NAME}").branches[0].target_commit == found.sha


def test_the_client_downloads_what_lies_in_the_folder(endpoint, api, tmp_path):
    path = hf_hub_download(f"wrn-hub/{NAME}", "model.safetensors", endpoint=endpoint, cache_dir=tmp_path, token=False)
    assert Path(path).read_bytes() == (ROOT / "model_cards" / NAME / "model.safetensors").read_bytes()
    assert api.snapshot_download(f"wrn-hub/{NAME}", cache_dir=tmp_path)
    assert api.verify_repo_checksums(f"wrn-hub/{NAME}", cache_dir=tmp_path)


def test_what_is_not_there_is_said_so(endpoint, api, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("wrn-hub/wrn_1_1")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(f"wrn-hub/{NAME}", revision="v0")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(f"wrn-hub/{NAME}", "nothing.txt", endpoint=endpoint, cache_dir=tmp_path, token=False)


@pytest.mark.parametrize(
    "path", ["../README.md", "..%2fREADME.md", "%2e%2e/README.md", "/etc/passwd", "a/../../README.md"])
def test_nothing_outside_a_repository_is_served(endpoint, path):
    host, _, port = endpoint.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port))  # sends the path as it stands
    connection.request("GET", f"/wrn-hub/{NAME}/resolve/main/{path}")
    assert connection.getresponse().status == 404


def test_a_link_that_leads_outside_is_not_served(tmp_path):
    folder = tmp_path / "models" / "net"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    for name in ("config.json", "model.safetensors", ".hidden"):
        (folder / name).write_text("{}")
    (folder / "link").symlink_to(tmp_path / "secret")
    found = FolderStore(tmp_path / "models").revision("models", "wrn-hub/net")
    assert set(found.files) == {"config.json", "model.safetensors"}


def test_a_folder_that_is_a_link_is_served_where_it_leads_to_another_one_here(tmp_path, caplog):
    make_model(tmp_path / "elsewhere" / "secret")
    make_model(tmp_path / "models" / "net")
    (tmp_path / "models" / "same").symlink_to("net")
    (tmp_path / "models" / "out").symlink_to(tmp_path / "elsewhere" / "secret")
    (tmp_path / "models" / "run").mkdir()
    (tmp_path / "models" / "run" / "model").symlink_to(tmp_path / "elsewhere" / "secret")
    (tmp_path / "models" / "cards").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("secret")
    store = FolderStore(tmp_path / "models")
    assert store.repositories() == ["wrn-hub/net", "wrn-hub/same"] and not store.extras()
    assert {record.args[0] for record in caplog.records} == {"out", "run"}
    with pytest.raises(NotFound):
        store.revision("models", "wrn-hub/out")


def test_models_that_cannot_be_asked_for_are_named_in_the_log_once(tmp_path, caplog):
    for name in ("net", "a b", "ünï", "x;y", ".hidden"):
        make_model(tmp_path / name)
    make_model(tmp_path / "run.git" / "model")
    (tmp_path / "no model").mkdir()
    store = FolderStore(tmp_path)
    for _ in range(2):
        assert store.repositories() == ["wrn-hub/net"]
        make_model(tmp_path / f"later{_}").rename(tmp_path / f".later{_}")  # so that it looks again
    said = [record.getMessage() for record in caplog.records]
    assert sorted(line.partition(" is not served: a name consists")[0] for line in said) == [
        "'a b'", "'run.git'", "'x;y'", "'ünï'"]


def test_a_folder_is_walked_again_only_after_it_changed(tmp_path, monkeypatch):
    for number in range(20):
        make_model(tmp_path / f"net{number}")
    yesterday = 1e9 * (os.stat(tmp_path).st_mtime - 86400)
    for folder in (*tmp_path.iterdir(), tmp_path):
        os.utime(folder, ns=(int(yesterday), int(yesterday)))
    walked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: walked.append(str(path)) or scandir(path))
    store = FolderStore(tmp_path)

    def walks() -> int:
        walked.clear()
        assert not store.extras() and all(store.revision("models", repo_id) for repo_id in store.repositories())
        return len([path for path in walked if path.startswith(str(tmp_path))])

    assert 20 < walks() <= 70  # the list, the pictures, and each model's files
    assert walks() == 0
    (tmp_path / "net3" / "notes.txt").write_text("new")
    walks()
    assert "notes.txt" in store.revision("models", "wrn-hub/net3").files
    (tmp_path / "net3" / "notes.txt").unlink()
    (tmp_path / "net4" / "config.json").unlink()
    make_model(tmp_path / "another")
    assert "notes.txt" not in store.revision("models", "wrn-hub/net3").files
    assert "wrn-hub/another" in store.repositories() and "wrn-hub/net4" not in store.repositories()


def test_the_work_of_a_page_grows_with_the_models_and_not_with_their_square(tmp_path, monkeypatch):
    looks = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looks.append(path) or stat(path, **options))

    def looked(count: int) -> int:
        for number in range(count):
            folder = make_model(tmp_path / str(count) / f"net{number}")
            os.utime(folder, (0, 0))
        os.utime(tmp_path / str(count), (0, 0))
        store = FolderStore(tmp_path / str(count))
        assert len(rows(store)) == count
        looks.clear()
        assert len(rows(store)) == count
        return len(looks)

    few, many = looked(10), looked(100)
    assert few < many < 11 * few


def test_what_may_not_be_read_is_not_served(tmp_path):
    for name in ("net", "closed", "sealed"):
        (tmp_path / name / "below").mkdir(parents=True)
        for path in ("config.json", "model.safetensors", "notes.txt", "below/notes.txt"):
            (tmp_path / name / path).write_text("{}")
    modes = {"net/notes.txt": 0o200, "net/below": 0o400, "closed": 0, "sealed/model.safetensors": 0}
    for path, mode in modes.items():
        (tmp_path / path).chmod(mode)
    try:
        if os.access(tmp_path / "closed", os.R_OK):
            pytest.skip("this user may read everything")
        with served(application(FolderStore(tmp_path))) as endpoint:
            api = HfApi(endpoint=endpoint, token=False)
            assert [model.id for model in api.list_models()] == ["wrn-hub/net"]
            assert set(api.list_repo_files("wrn-hub/net")) == {"config.json", "model.safetensors"}
            assert ask(endpoint, "GET", "/")[0] == 200
            assert ask(endpoint, "GET", "/wrn-hub/net/resolve/main/notes.txt")[0] == 404
            assert ask(endpoint, "GET", "/api/models/wrn-hub/closed")[0] == 404
        with pytest.raises(UserError, match="can be read"):
            FolderStore(tmp_path / "closed")
    finally:
        for path in modes:
            (tmp_path / path).chmod(0o700)


def client(endpoint: str, home: Path, code: str, *arguments: object) -> str:
    """Run Python in a process of its own that knows no Hub but this one; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=home, capture_output=True, text=True, env={
            **os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "cache"),
            "HF_HUB_OFFLINE": "0"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_timm_loads_from_it(endpoint, tmp_path):
    client(endpoint, tmp_path, (
        "import sys, timm, torch, wrn_hub; "
        f"model = timm.create_model('hf-hub:wrn-hub/{NAME}', pretrained=True).eval(); "
        "torch.manual_seed(0); torch.save(model(torch.randn(2, 3, 32, 32)), sys.argv[1])"), tmp_path / "logits.pt")
    model = timm.create_model(NAME, pretrained=True).eval()
    torch.manual_seed(0)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), model(torch.randn(2, 3, 32, 32)))


def test_the_snippet_of_a_page_runs_as_it_is_pasted(endpoint, tmp_path):
    shown = ask(endpoint, "GET", f"/wrn-hub/{NAME}")[2].decode()
    snippet = html.unescape(re.search(r"<summary>timm</summary>\s*<pre[^>]*><code>(.*?)</code>", shown, re.DOTALL)[1])
    elsewhere = "http://127.0.0.1:9"  # the snippet itself says where the hub is
    assert client(elsewhere, tmp_path, f"{snippet}\nprint(model.num_classes)").split()[-1] == "10"


def test_transformers_loads_from_it_and_says_the_same_as_timm(endpoint, tmp_path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "image.png")
    said = json.loads(client(endpoint, tmp_path, f"""
import json
import torch
import wrn_hub
from transformers import pipeline
classify = pipeline("image-classification", model="wrn-hub/{NAME}")
torch.manual_seed(0)
torch.save(classify.model(pixel_values=torch.randn(2, 3, 32, 32)).logits, "logits.pt")
print(json.dumps(classify("image.png")))
"""))
    model = timm.create_model(NAME, pretrained=True).eval()
    torch.manual_seed(0)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), model(torch.randn(2, 3, 32, 32)))
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    with torch.inference_mode():
        probabilities = model(transform(Image.open(tmp_path / "image.png")).unsqueeze(0)).softmax(dim=1)[0]
    assert said[0]["label"] == DATASETS["cifar10"].classes[probabilities.argmax()]
    assert [entry["score"] for entry in said] == pytest.approx(probabilities.sort(descending=True).values[:5].tolist())


@pytest.mark.parametrize("arch", ["wrn_50_2"])  # the page of wrn_101_2 has the same text, and takes twice the time
def test_every_snippet_of_a_page_of_timms_weights_runs_against_it(arch, tmp_path):
    """Against a hub with repositories of timm's names, whose weights are random: the page as it stands, but for the
    photograph's address, which leads to a picture there."""
    repository = timm.get_pretrained_cfg(arch).hf_hub_id.removeprefix("timm/")
    name, _, tag = repository.partition(".")
    save_model(timm.create_model(name), tmp_path / "models" / repository, tag=tag, half=True)
    with served(application(FolderStore(tmp_path / "models", "timm"))) as address:
        shutil.copy(sample_of(), tmp_path / "models" / repository / SAMPLE)
        page = (ROOT / "model_cards" / arch / "README.md").read_text()
        page = page.replace(PHOTOGRAPH, f"{address}/timm/{repository}/resolve/main/{SAMPLE}")
        snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        run_all = "import json, sys\nfor snippet in json.loads(sys.argv[1]): exec(snippet, {'__name__': '__main__'})"
        assert client(address, tmp_path, run_all, json.dumps(snippets))


def ask(endpoint: str, method: str, path: str, **headers: str):
    """One request, without following where it leads."""
    connection = HTTPConnection(endpoint.removeprefix("http://"))
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_a_part_of_a_file_and_its_head_alone(endpoint, api):
    commit = api.model_info(f"wrn-hub/{NAME}").sha
    path = f"/wrn-hub/{NAME}/resolve/{commit}/model.safetensors"
    content = (ROOT / "model_cards" / NAME / "model.safetensors").read_bytes()
    status, headers, body = ask(endpoint, "HEAD", path)
    assert (status, body, int(headers["Content-Length"])) == (200, b"", len(content))
    assert headers["ETag"] == f'"{wrn_hub.weights.MANIFEST[NAME]["sha256"]}"' and headers["X-Repo-Commit"] == commit
    status, headers, body = ask(endpoint, "GET", path, Range="bytes=100-199")
    assert (status, body, headers["Content-Range"]) == (206, content[100:200], f"bytes 100-199/{len(content)}")
    assert ask(endpoint, "GET", path, Range="bytes=-10")[2] == content[-10:]
    assert ask(endpoint, "GET", path, Range=f"bytes={len(content)}-")[0] == 416


@pytest.mark.parametrize("asked, status, part", [
    ("bytes=0-0", 206, slice(0, 1)), ("BYTES = 5-9 ", 206, slice(5, 10)), ("bytes=5-", 206, slice(5, None)),
    ("bytes=, 5-9 ,", 206, slice(5, 10)), ("bytes=0-99999999", 206, slice(0, None)),
    ("bytes=-99999999", 206, slice(0, None)), ("bytes=99999999-, 5-9", 206, slice(5, 10)),
    ("bytes=99999999-", 416, None), ("bytes=-0", 416, None),
    *((malformed, 200, slice(0, None)) for malformed in (
        "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-5", "bytes=1-2-3", "bytes=--1", "bytes=+1-2",
        "bytes=1_0-20", "lines=1-2", "bytes=0x1-2", "bytes=" + "9" * 5000 + "-", "bytes=0-1;2-3", "\xb2=\xb2")),
])
def test_a_range_is_answered_as_rfc_9110_says(endpoint, api, asked, status, part):
    """... which takes a malformed one for none at all."""
    content = (ROOT / "model_cards" / NAME / "config.json").read_bytes()
    path = f"/wrn-hub/{NAME}/resolve/{api.model_info(f'wrn-hub/{NAME}').sha}/config.json"
    found, headers, body = ask(endpoint, "GET", path, Range=asked)
    assert found == status
    if part is None:
        assert headers["Content-Range"] == f"bytes */{len(content)}"
    else:
        assert body == content[part] and int(headers["Content-Length"]) == len(body)


def test_what_a_commit_holds_is_kept_by_caches_and_not_sent_twice(endpoint, api):
    commit = api.model_info(f"wrn-hub/{NAME}").sha
    path = f"/wrn-hub/{NAME}/resolve/{commit}/model.safetensors"
    _, headers, _ = ask(endpoint, "HEAD", path)
    etag = headers["ETag"]
    assert {"immutable", "max-age=31536000"} <= set(headers["Cache-Control"].split(", "))
    for method, sent in (("GET", etag), ("HEAD", etag), ("GET", f'"other", W/{etag}'), ("GET", "*")):
        status, headers, body = ask(endpoint, method, path, **{"If-None-Match": sent})
        assert (status, body, headers["ETag"], headers["X-Repo-Commit"]) == (304, b"", etag, commit), sent
    for other in ('"other"', etag.strip('"'), ""):
        assert ask(endpoint, "HEAD", path, **{"If-None-Match": other})[0] == 200
    moving, headers, _ = ask(endpoint, "GET", path.replace(commit, "main"), **{"If-None-Match": etag})
    assert (moving, headers["Cache-Control"]) == (307, "no-cache")


def test_text_goes_gzipped_and_the_files_of_repositories_as_they_are(endpoint, api):
    commit = api.model_info(f"wrn-hub/{NAME}").sha
    for path in ("/", f"/wrn-hub/{NAME}", "/api/models", "/-/static/hub.css"):
        whole = ask(endpoint, "GET", path)
        assert "Content-Encoding" not in whole[1] and whole[1]["Vary"] == "Accept-Encoding"
        status, headers, body = ask(endpoint, "GET", path, **{"Accept-Encoding": "gzip, br"})
        assert status == 200 and headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body) == whole[2] and len(body) < len(whole[2]) / 2
    for path in ("model.safetensors", "config.json", "README.md"):
        status, headers, body = ask(endpoint, "GET", f"/wrn-hub/{NAME}/resolve/{commit}/{path}",
                                    **{"Accept-Encoding": "gzip", "Range": "bytes=3-900"})
        assert (status, "Content-Encoding" in headers) == (206, False)
        assert body == (ROOT / "model_cards" / NAME / path).read_bytes()[3:901]


HALF_OPEN = {
    "nothing is asked": b"",
    "half a head": b"GET / HT",
    "half a body": b"POST /api/models/wrn-hub/net/paths-info/main HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npath",
    "no answer is taken": b"GET {large} HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """A hub that waits 0.3 s, and the address of a large file in it."""
    folder = tmp_path_factory.mktemp("impatient")
    make_model(folder / "net", bytes(64 << 20))
    patience, serve_module.PATIENCE = serve_module.PATIENCE, 0.3
    with served(application(FolderStore(folder)), serve_module.configuration) as address:
        yield address, ask(address, "HEAD", "/wrn-hub/net/resolve/main/model.safetensors")[1]["Location"]
    serve_module.PATIENCE = patience


def connect(endpoint: str) -> socket.socket:
    host, _, port = endpoint.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


@pytest.mark.parametrize("case", HALF_OPEN)
def test_a_connection_on_which_nothing_moves_is_ended(impatient, case):
    endpoint, large = impatient
    with connect(endpoint) as connection:
        connection.sendall(HALF_OPEN[case].replace(b"{large}", large.encode()))
        time.sleep(1.2)
        received = 0
        with suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                received += len(part)
    assert received < 64 << 20


def test_a_head_that_comes_a_byte_at_a_time_is_not_waited_for(impatient):
    with connect(impatient[0]) as connection, pytest.raises(OSError):
        for _ in range(200):
            connection.sendall(b"G")
            time.sleep(0.05)


def test_a_download_that_moves_slowly_is_not_ended(impatient):
    endpoint, large = impatient
    connection = HTTPConnection(endpoint.removeprefix("http://"))
    connection.request("GET", large)
    answer, received = connection.getresponse(), 0
    while part := answer.read(4 << 20):
        received += len(part)
        time.sleep(0.1)
    assert received == 64 << 20


def test_more_connections_than_are_served_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(serve_module, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(serve_module, "PATIENCE", 0.5)
    make_model(tmp_path / "net")
    with served(application(FolderStore(tmp_path)), serve_module.configuration) as endpoint, ExitStack() as held:
        for _ in range(3):
            held.enter_context(connect(endpoint))
        time.sleep(0.1)
        assert ask(endpoint, "GET", "/api/models")[0] == 503
        time.sleep(0.8)  # those on which nothing moves have been ended
        assert ask(endpoint, "GET", "/api/models")[0] == 200


def test_clients_that_go_leave_no_traceback_in_the_log(tmp_path, capfd):
    make_model(tmp_path / "net", bytes(64 << 20))
    with served(application(FolderStore(tmp_path)), serve_module.configuration) as endpoint:
        large = ask(endpoint, "HEAD", "/wrn-hub/net/resolve/main/model.safetensors")[1]["Location"]
        requests = [*HALF_OPEN.values(), b"\x16\x03garbage", b"GET /api/models HTTP/1.1\r\nHost: a\r\n\r\n" * 3]
        for request in requests:
            for abruptly in (False, True):
                with connect(endpoint) as connection:
                    connection.sendall(request.replace(b"{large}", large.encode()))
                    time.sleep(0.05)
                    if abruptly:  # by a reset
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ask(endpoint, "GET", "/api/models")[0] == 200
        with connect(endpoint) as connection:  # a download that is under way when the server ends
            connection.sendall(HALF_OPEN["no answer is taken"].replace(b"{large}", large.encode()))
            connection.recv(1)
    output = capfd.readouterr()
    assert "Traceback" not in output.out + output.err


def test_a_file_is_the_one_that_was_looked_at_or_none(tmp_path):
    """A net is trained anew between a client's look at a file and its download: same size, other bytes."""
    def put(seed: int) -> bytes:
        torch.manual_seed(seed)
        return (save_model(timm.create_model("wrn_10_2"), tmp_path / "runs" / "net") / "model.safetensors").read_bytes()

    first = put(1)
    with served(application(FolderStore(tmp_path / "runs", "my-lab"))) as endpoint:
        status, headers, _ = ask(endpoint, "HEAD", "/my-lab/net/resolve/main/model.safetensors")
        assert status == 307 and ask(endpoint, "GET", headers["Location"])[2] == first
        second = put(2)
        assert len(second) == len(first) and second != first
        assert ask(endpoint, "GET", headers["Location"])[0] == 404

        def download() -> bytes:
            return Path(hf_hub_download(
                "my-lab/net", "model.safetensors", endpoint=endpoint, cache_dir=tmp_path / "cache", token=False,
            )).read_bytes()

        assert download() == second
        third = put(3)
        assert download() == third


def test_a_download_of_a_file_that_changes_on_the_way_breaks_off(tmp_path):
    """It is overwritten where it lies, with as many other bytes."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text("{}")
    weights, size = tmp_path / "net" / "model.safetensors", 64 << 20  # more than the sockets' buffers hold
    weights.write_bytes(b"1" * size)
    with served(application(FolderStore(tmp_path))) as endpoint:
        _, headers, _ = ask(endpoint, "HEAD", "/wrn-hub/net/resolve/main/model.safetensors")
        for options in ({}, {"Range": "bytes=1-"}):
            connection = HTTPConnection(endpoint.removeprefix("http://"))
            connection.request("GET", headers["Location"], headers=options)
            answer = connection.getresponse()
            assert answer.status in (200, 206) and answer.read(1) == b"1"
            before = weights.stat()
            with weights.open("r+b") as file:
                file.write(b"2" * size)
            with pytest.raises(IncompleteRead):
                answer.read()
            weights.write_bytes(b"1" * size)
            os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("path", [
    f"/wrn-hub/{NAME}/resolve/main/%E6%97%A5.txt", f"/api/models/wrn-hub/{NAME}/tree/%E6%97%A5",
    "/api/models/lab/%E6%97%A5", "/api/models/lab/net%0A", "/lab/%E6%97%A5", "/%FF"])
def test_what_is_not_there_may_have_any_name(endpoint, path):
    assert ask(endpoint, "GET", path)[0] == 404


def test_a_limit_is_a_number(endpoint):
    everything = ask(endpoint, "GET", "/api/models")
    assert everything[0] == 200 and len(json.loads(ask(endpoint, "GET", "/api/models?limit=1")[2])) == 1
    for limit in ("%C2%B2", "-1", "9" * 5000):
        assert ask(endpoint, "GET", f"/api/models?limit={limit}")[::2] == everything[::2]


def test_a_question_about_paths_is_read_up_to_a_size(endpoint, api):
    assert [entry.path for entry in api.get_paths_info(f"wrn-hub/{NAME}", ["config.json", "none"])] == ["config.json"]

    def post(body: bytes, announced: int) -> int:
        connection = HTTPConnection(endpoint.removeprefix("http://"), timeout=20)
        connection.request("POST", f"/api/models/wrn-hub/{NAME}/paths-info/main", body, {"Content-Length": announced})
        return connection.getresponse().status

    assert post(bytes((1 << 20) + 1), 1 << 30) == 413  # though the rest never comes
    for body in (b"paths=\xff", b"paths=a&" * 20_000):
        assert post(body, len(body)) == 400


def test_trainings_are_served_under_their_folders_names(tmp_path):
    save_model(timm.create_model("wrn_10_2"), tmp_path / "finetune" / "model")
    (tmp_path / "finetune" / "args.json").write_text("{}")
    for name in ("not a name", ".hidden", "empty"):
        save_model(timm.create_model("wrn_10_2"), tmp_path / name)
    (tmp_path / "empty" / "model.safetensors").unlink()
    store = FolderStore(tmp_path)
    assert store.repositories("models") == ["wrn-hub/finetune"] and store.repositories("datasets") == []
    assert set(store.revision("models", "wrn-hub/finetune").files) == {"config.json", "model.safetensors"}


@pytest.fixture
def process(tmp_path):
    """scripts/hub.py, serving one model on a free port."""
    save_model(timm.create_model("wrn_10_2"), tmp_path / "net")
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "scripts" / "hub.py"), str(tmp_path), "--port", "0", "--org", "my-lab"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    yield process
    process.kill()
    process.communicate()


def test_the_script_says_where_it_serves_and_ends_at_ctrl_c(process, tmp_path):
    lines = [process.stdout.readline() for _ in range(2)]
    endpoint = re.search(r"HF_ENDPOINT=(\S+)", lines[1])[1]
    assert lines[0].startswith("1 model of ") and lines[0].rstrip().endswith(endpoint)
    assert [model.id for model in HfApi(endpoint=endpoint, token=False).list_models()] == ["my-lab/net"]

    taken = int(endpoint.rpartition(":")[2])
    with pytest.raises(UserError, match=f"port {taken} of 127.0.0.1.*--port"):
        serve(FolderStore(tmp_path), port=taken)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="the system doesn't tell what is loaded")
def test_no_torch_is_loaded_before_the_first_picture_comes(process):
    """Which is why it is up in a second, and in a tenth of the memory."""
    endpoint = re.search(r"http://\S+", process.stdout.readline())[0]

    def has_torch() -> bool:
        return any("libtorch" in one.path for one in psutil.Process(process.pid).memory_maps())

    for path in ("/", "/?q=28-10", "/my-lab/net", "/api/models", "/frontier", "/-/static/hub.css"):
        assert ask(endpoint, "GET", path)[0] == 200
    assert not has_torch()
    picture = Request(f"{endpoint}/api/predict/my-lab/net", sample_of().read_bytes(), method="POST")
    assert len(json.load(urlopen(picture))["classes"]) == 5 and has_torch()


@pytest.mark.parametrize("arguments, said", [
    (["nowhere"], "nowhere is not a folder"),
    (["~nosuch"], "~nosuch is not a folder"),
    ([".", "--org", "a/b"], "organisation 'a/b'"),
    ([".", "--host", "256.0.0.1"], "--host 256.0.0.1"),
    ([".", "--host", "a..b"], "--host a..b"),
    ([".", "--port", "70000"], "--port 70000"),
])
def test_what_cannot_be_served_is_said_in_one_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    folder, *options = arguments
    options = dict(zip(options[::2], options[1::2], strict=True))
    with pytest.raises(UserError) as caught:
        serve(FolderStore(folder, options.get("--org", "wrn-hub")), options.get("--host", "127.0.0.1"),
              int(options.get("--port", 0)))
    assert said in str(caught.value) and "\n" not in str(caught.value)
