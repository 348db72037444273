"""The local hub, asked by the real clients: huggingface_hub here, timm and transformers in processes of their own."""
import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
import timm
import torch
from hub_server import served
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

import wrn_hub
from wrn_hub.hub.serve import application
from wrn_hub.hub.store import FolderStore

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


def test_timm_loads_from_it(endpoint, tmp_path):
    code = (
        "import sys, timm, torch, wrn_hub; "
        f"model = timm.create_model('hf-hub:wrn-hub/{NAME}', pretrained=True).eval(); "
        "torch.manual_seed(0); torch.save(model(torch.randn(2, 3, 32, 32)), sys.argv[1])")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "logits.pt")], check=True, env={
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"})
    model = timm.create_model(NAME, pretrained=True).eval()
    torch.manual_seed(0)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), model(torch.randn(2, 3, 32, 32)))
