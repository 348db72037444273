"""Publishing: a test Hub, the real clients, and everything that goes wrong between them."""
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import ACCOUNT, TOKEN, Fault
from huggingface_hub import HfApi, constants

import wrn_hub
from wrn_hub.errors import UserError
from wrn_hub.hub import repository
from wrn_hub.hub.publish import COLLECTION, ORGANISATION, plan, publish
from wrn_hub.hub.repository import plain_transfers

README = Path(__file__).resolve().parent.parent / "scripts" / "README.md"
NAME = "wrn_16_2.cifar10"
REPOSITORY = f"wrn-hub/{NAME}"


@pytest.fixture
def old(hub) -> dict[str, bytes]:
    """The repository as an earlier release left it, with a file that is gone since."""
    files = {".gitattributes": b"", "README.md": b"old", "model.safetensors": b"old weights", "notes.txt": b"old notes"}
    hub.store.create("models", REPOSITORY)
    hub.store.commit("models", REPOSITORY, "main", {path: hub.store.keep(data) for path, data in files.items()})
    return files


def contents(hub, revision: str = "main") -> dict[str, bytes]:
    found = hub.store.revision("models", REPOSITORY, revision)
    return {path: file.content.read_bytes() for path, file in found.files.items()}


def run(checkout) -> list[str]:
    api = HfApi()
    return list(publish(api, plan(api, checkout, [NAME]), checkout))


def recorded(checkout) -> str | None:
    return json.loads((checkout / "wrn_hub" / "weights.json").read_text())[NAME]["published"]


def staged_files(checkout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (checkout / "model_cards" / NAME).iterdir()}



# What publishing does


def test_a_dry_run_shows_every_change_and_makes_none(hub, old, checkout, caplog):
    caplog.set_level("INFO", "wrn_hub")
    (one,) = plan(HfApi(), checkout)
    assert caplog.messages == [f"asking the Hub at {constants.ENDPOINT} for the repositories of {ORGANISATION}"]
    changes = {line.partition(",")[0] for line in one.lines()}
    assert {"change README.md", "change model.safetensors", "add results.json", "delete notes.txt", "tag it v0.1.0",
            f'list it in the collection "{COLLECTION}"', "record the commit in wrn_hub/weights.json"} <= changes
    assert not any(".gitattributes" in line for line in changes)
    assert contents(hub) == old and recorded(checkout) is None and not hub.writes


def test_the_readme_shows_what_a_dry_run_prints(hub, checkout):
    (one,) = plan(HfApi(), checkout)
    shown = re.search(rf"\$ python scripts/publish.py {NAME}\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert set(shown.splitlines()) - {"  ...", "..."} <= {f"{REPOSITORY}:", *(f"  {line}" for line in one.lines())}


def test_a_repository_is_what_is_staged_byte_for_byte(hub, checkout):
    (published,) = run(checkout)
    repo_id, _, commit = published.partition("@")
    assert repo_id == REPOSITORY and contents(hub, commit).pop(".gitattributes")
    assert {k: v for k, v in contents(hub, commit).items() if k != ".gitattributes"} == staged_files(checkout)
    assert hub.store.revision("models", REPOSITORY, f"v{wrn_hub.__version__}").commit == commit
    assert recorded(checkout) == published
    (collection,) = HfApi().list_collections(owner="wrn-hub")
    assert collection.title == COLLECTION and [item.item_id for item in collection.items] == [REPOSITORY]
    assert len(hub.store.repository("models", REPOSITORY).commits) == 2  # the Hub's own first one, and one of ours


def test_files_that_are_gone_go_and_earlier_commits_stay_readable(hub, old, checkout):
    before = hub.store.revision("models", REPOSITORY).commit
    run(checkout)
    assert contents(hub).keys() == staged_files(checkout).keys() | {".gitattributes"}
    assert contents(hub, before) == old


def test_publishing_twice_sends_nothing_the_second_time(hub, checkout):
    first = run(checkout)
    sent, files = len(hub.writes), contents(hub)
    (one,) = plan(HfApi(), checkout)
    assert one.empty and one.lines() == []
    assert run(checkout) == first
    assert len(hub.writes) == sent and contents(hub) == files


def test_only_what_changed_is_sent(hub, checkout):
    run(checkout)
    del hub.store.repository("models", REPOSITORY).tags[f"v{wrn_hub.__version__}"]
    changed = {**hub.store.revision("models", REPOSITORY).files, "metrics.csv": hub.store.keep(b"epoch")}
    hub.store.commit("models", REPOSITORY, "main", changed)
    (one,) = plan(HfApi(), checkout)
    assert one.difference.changed == ("metrics.csv",) and not one.difference.added and not one.difference.deleted
    sent = len(hub.writes)
    run(checkout)
    assert not [request for request in hub.writes[sent:] if re.match(UPLOAD, request)]
    assert contents(hub)["metrics.csv"] == staged_files(checkout)["metrics.csv"]


def test_hidden_files_are_not_published(hub, checkout):
    (checkout / "model_cards" / NAME / ".secret").write_text("secret")
    run(checkout)
    assert ".secret" not in contents(hub)


def test_only_files_of_a_model_are_published_and_what_is_left_out_is_named(hub, checkout, tmp_path):
    folder = checkout / "model_cards" / NAME
    before = staged_files(checkout)
    (folder / "token.txt").write_text(TOKEN)
    (folder / "photo.png").write_bytes(b"my cat")
    (folder / "notes").mkdir()
    (folder / "notes" / "README.md").write_text("notes")
    (folder / "results.seed1.txt").symlink_to("/etc/hostname")
    (one,) = plan(HfApi(), checkout)
    assert [line for line in one.lines() if line.startswith("leave out")] == [
        f"leave out {name}, which is no file of a model" for name in ("notes", "photo.png", "results.seed1.txt",
                                                                      "token.txt")]
    run(checkout)
    assert {path: data for path, data in contents(hub).items() if path != ".gitattributes"} == before


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_links_out_of_the_folder_are_not_followed(hub, checkout, tmp_path, name):
    file = checkout / "model_cards" / NAME / name
    file.rename(tmp_path / name)
    file.symlink_to(tmp_path / name)
    with pytest.raises(UserError, match=f"{name} is a link out of the folder"):
        run(checkout)
    assert not hub.writes


def test_a_folder_that_is_a_link_is_not_published(hub, checkout, tmp_path):
    folder = checkout / "model_cards" / NAME
    folder.rename(tmp_path / NAME)
    folder.symlink_to(tmp_path / NAME)
    with pytest.raises(UserError, match=f"{NAME} is a link to {tmp_path / NAME}"):
        run(checkout)
    assert not hub.writes


@pytest.mark.parametrize("content, says", [
    ("", "not JSON"), ("{", "not JSON"), ("[]", "holds a list"), ("{}", "architecture is None"),
    ('{"architecture": "wrn_9_9"}', "architecture is 'wrn_9_9', but timm has no model"),
    ('{"architecture": ["wrn_16_2"]}', r"architecture is \['wrn_16_2'\]"),
    ('{"architecture": "wrn_16_1", "num_classes": 10}', "model.safetensors has stages.0.0.shortcut.weight"),
    ('{"architecture": "wrn_16_2", "num_classes": 3}', r"head.fc.weight of shape \(10, 128\)"),
    ('{"architecture": "wrn_16_2", "num_classes": "ten"}', "num_classes is 'ten'"),
    ('{"architecture": "wrn_16_2", "num_classes": 10, "pretrained_cfg": {"input_size": 32}}', "input_size is 32"),
])
def test_a_config_that_gives_no_model_is_found_before_anything_is_sent(hub, checkout, content, says):
    (checkout / "model_cards" / NAME / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"config.json.*({says})|{says}") as error:
        run(checkout)
    assert "\n" not in str(error.value) and not hub.writes


def test_a_file_that_changes_after_it_was_looked_at_is_not_sent(hub, checkout):
    api = HfApi()
    plans = plan(api, checkout, [NAME])
    (checkout / "model_cards" / NAME / "metrics.csv").write_text("epoch")
    with pytest.raises(UserError, match=r"metrics.csv has changed since it was looked at; run it again"):
        list(publish(api, plans, checkout))
    assert not hub.writes


@pytest.mark.parametrize("content", [b"", b"[]", b'{"wrn_16_2.cifar10": null}', b"\xff"])
def test_a_damaged_manifest_is_named(hub, checkout, content):
    (checkout / "wrn_hub" / "weights.json").write_bytes(content)
    with pytest.raises(UserError, match=r"weights.json: "):
        run(checkout)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "ftp://hub", "http://", "huggingface.co"])
def test_an_endpoint_that_is_no_address_is_named(hub, checkout, monkeypatch, endpoint):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(UserError, match=f"HF_ENDPOINT is '{endpoint}', which is no address"):
        run(checkout)


def test_a_published_version_stays_as_it_is(hub, checkout):
    run(checkout)
    files = {**hub.store.revision("models", REPOSITORY).files, "later.txt": hub.store.keep(b"later")}
    hub.store.commit("models", REPOSITORY, "main", files)
    sent = len(hub.writes)
    with pytest.raises(UserError, match=r"has v0.1.0 at \w+ already.*raise __version__"):
        run(checkout)
    assert len(hub.writes) == sent


def spoil(checkout: Path, file: str) -> None:
    path = checkout / "model_cards" / NAME / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("file, says", [
    ("model.safetensors", "model.safetensors is not what wrn_hub/weights.json lists: its sha256 is .* listed is"),
    ("README.md", "README.md is stale: run scripts/maintain/make_cards.py"),
])
def test_a_stale_card_or_other_weights_are_refused_before_anything_is_sent(hub, checkout, file, says):
    spoil(checkout, file)
    with pytest.raises(UserError, match=says):
        run(checkout)
    assert not hub.writes


def test_what_is_not_staged_is_said_so(hub, checkout):
    with pytest.raises(UserError, match=f"wrn_16_2.cifar11 is not staged.*Did you mean '{NAME}'"):
        plan(HfApi(), checkout, ["wrn_16_2.cifar11"])
    (checkout / "model_cards" / NAME / "results.json").unlink()
    with pytest.raises(UserError, match=r"results.json.*evaluate.py"):
        plan(HfApi(), checkout, [NAME])


@pytest.mark.parametrize("organisation, token, says", [
    ("someone-else", TOKEN, "may not write to someone-else; it may to ada, wrn-hub"),
    ("readers", TOKEN, "may not write to readers"),
    ("wrn-hub", "hf_wrong", r"the token is not valid \(401"),
    ("wrn-hub", "hf_reader", "may only read there"),
    ("wrn-hub", "hf_narrow", "may only read there"),
    ("wrn-hub", None, "there is no token; make a token"),
    ("wrn-hub", "", "there is no token"),
])
def test_a_token_that_does_not_reach_is_found_before_anything_is_sent(
        hub, checkout, monkeypatch, tmp_path, organisation, token, says):
    hub.tokens["hf_reader"] = {**ACCOUNT, "auth": {"accessToken": {"role": "read"}}}
    hub.tokens["hf_narrow"] = {**ACCOUNT, "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": [
        {"entity": {"type": "user", "name": "ada"}, "permissions": ["repo.write"]}]}}}}
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=says):
        list(publish(HfApi(), plan(HfApi(), checkout, [NAME], organisation), checkout))
    assert not hub.writes


def test_a_fine_grained_token_for_the_organisation_reaches(hub, checkout, monkeypatch):
    hub.tokens["hf_fine"] = {**ACCOUNT, "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": [
        {"entity": {"type": "org", "name": "wrn-hub"}, "permissions": ["repo.content.read", "repo.write"]}]}}}}
    monkeypatch.setenv("HF_TOKEN", "hf_fine")
    assert run(checkout)


@pytest.mark.parametrize("endpoint, xet", [("https://huggingface.co", True), ("http://127.0.0.1:8000", False)])
def test_large_files_go_through_xet_at_the_hub_and_nowhere_else(monkeypatch, endpoint, xet):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with plain_transfers():
        assert constants.HF_HUB_DISABLE_XET is not xet
    assert not constants.HF_HUB_DISABLE_XET


# What goes wrong on the way

REFS, TREE, WHOAMI, CREATE = "GET .*/refs$", "GET .*/tree/", "GET .*/whoami-v2", "POST .*/repos/create"
PREUPLOAD, BATCH, UPLOAD = "POST .*/preupload/", "POST .*/objects/batch", "PUT /lfs/"
COMMIT, TAG, ITEM = "POST .*/commit/", "POST .*/tag/", "POST /api/collections/"
ASK, GET = "HEAD .*/resolve/.*model.safetensors", "GET .*/resolve/.*model.safetensors"
FOR_EVER = 1000
WAIT = {"Retry-After": "7"}

SURVIVED = {
    "the tree isn't listed at first": Fault(TREE, 503),
    "an upload is dropped": Fault(UPLOAD, kind="drop"),
    "the answer to an upload is lost": Fault(UPLOAD, kind="lose"),
    "an upload meets a 500": Fault(UPLOAD, 500),
    "an upload meets a 502": Fault(UPLOAD, 502, times=2),
    "an upload meets a 503": Fault(UPLOAD, 503, times=3),
    "too many uploads": Fault(UPLOAD, 429, headers=WAIT),
    "too many downloads": Fault(GET, 429, headers=WAIT),
    "a download is dropped": Fault(GET, kind="drop"),
    "a download breaks off": Fault(GET, kind="truncate", times=3),
    "the list of uploads breaks off": Fault(BATCH, kind="truncate"),
    "the answer to a commit is lost": Fault(COMMIT, kind="lose"),
    "the answer to a commit is cut short": Fault(COMMIT, kind="truncate"),
    "a slow server": Fault(".*", kind="slow", times=8),
    "redirected questions": Fault(REFS, kind="redirect"),
    "a redirected commit": Fault(COMMIT, kind="redirect"),
    "a redirected download": Fault(GET, kind="redirect"),
}
ENDS = {
    "the token ran out": (Fault(COMMIT, 401), r"the token is not valid \(401.*hf auth login, or set HF_TOKEN"),
    "no right to commit": (Fault(COMMIT, 403), r"the token may not do this \(403.*name another with --org"),
    "no right to upload": (Fault(UPLOAD, 403), r"the token may not do this \(403"),
    "the repository was deleted": (Fault(PREUPLOAD, 404), r"it is not there \(404"),
    "a conflict": (Fault(COMMIT, 409), r"something of this name has just been made \(409"),
    "a commit refused": (Fault(COMMIT, 400), r"the server refuses the request \(400: as the test wants it"),
    "too many commits": (Fault(COMMIT, 429, headers=WAIT), r"too many requests \(429.*wait some minutes"),
    "a commit meets a 500": (Fault(COMMIT, 500), r"the server is in trouble \(500.*run it again later"),
    "a commit meets a 503": (Fault(COMMIT, 503), r"the server is in trouble \(503.*run it again later"),
    "a commit is dropped": (Fault(COMMIT, kind="drop"), "the connection broke off.*check the network"),
    "the server is gone": (Fault(".*", kind="drop", times=FOR_EVER), "the connection broke off.*HF_ENDPOINT"),
    "the server fails": (Fault(".*", 502, times=FOR_EVER), r"the server is in trouble \(502"),
    "gone before uploads": (Fault(UPLOAD, kind="drop", times=FOR_EVER), "the connection broke off"),
    "gone before downloads": (Fault(GET, kind="drop", times=FOR_EVER), "model.safetensors.*the connection broke off"),
    "downloads break off": (Fault(GET, kind="truncate", times=FOR_EVER), "the connection broke off|Consistency"),
    "downloads are not found": (Fault(ASK, 404, times=FOR_EVER), r"model.safetensors.*it is not there \(404"),
    "another page answers": (Fault(REFS, kind="garble"), "the answer is not one of the Hub's.*check HF_ENDPOINT"),
    "wrong bytes arrive": (Fault(GET, kind="garble", times=FOR_EVER), r"sha256 is \w{64}, that of .* is \w{64}; run"),
    "a wrong config arrives": (Fault("GET .*config.json", kind="garble"), r"config.json.* is not what was sent"),
    "no right to tag": (Fault(TAG, 403), r"the token may not do this \(403"),
    "the collection fails": (Fault(ITEM, 500), r'the collection "Wide Residual Networks".*in trouble \(500'),
}


def assert_nothing_is_half_done(hub, old, checkout) -> None:
    """The repository is as it was or as it is to be; the manifest vouches for what is there and was verified."""
    new = {**staged_files(checkout), ".gitattributes": b""}
    assert contents(hub) in (old, new)
    published = recorded(checkout)
    assert published is None or contents(hub, published.partition("@")[2]) == new


def assert_no_token(capsys, tmp_path) -> None:
    output = capsys.readouterr()
    assert TOKEN not in output.out + output.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


@pytest.mark.parametrize("case", SURVIVED)
def test_a_fault_is_survived(case, hub, old, checkout, capsys, tmp_path):
    fault = replace(SURVIVED[case])
    hub.faults.append(fault)
    assert run(checkout) and fault.seen
    assert contents(hub) == {**staged_files(checkout), ".gitattributes": b""}
    assert recorded(checkout) == f"{REPOSITORY}@{hub.store.revision('models', REPOSITORY).commit}"
    if fault.headers:
        assert max(hub.slept) >= 7  # as long as the server asks
    assert_no_token(capsys, tmp_path)


@pytest.mark.parametrize("case", ENDS)
def test_a_fault_ends_in_one_line_and_the_next_run_mends_it(case, hub, old, checkout, capsys, tmp_path):
    fault, says = ENDS[case]
    hub.faults.append(replace(fault))
    with pytest.raises(UserError) as error:
        run(checkout)
    assert re.search(says, str(error.value)) and "\n" not in str(error.value) and TOKEN not in str(error.value)
    assert_nothing_is_half_done(hub, old, checkout)

    hub.faults.clear()
    assert run(checkout) == [f"{REPOSITORY}@{hub.store.revision('models', REPOSITORY).commit}"]
    assert contents(hub) == {**staged_files(checkout), ".gitattributes": b""}
    assert len(hub.store.repository("models", REPOSITORY).commits) == 3  # never one more than needed
    assert_no_token(capsys, tmp_path)


def test_another_commit_that_comes_between_stays(hub, old, checkout):
    theirs = {**old, "theirs.txt": b"theirs"}
    hub.faults.append(Fault(COMMIT, before=lambda: hub.store.commit(
        "models", REPOSITORY, "main", {path: hub.store.keep(data) for path, data in theirs.items()})))
    with pytest.raises(UserError, match=r"another commit came between \(412: A commit has.*look at what"):
        run(checkout)
    assert contents(hub) == theirs and recorded(checkout) is None


def test_a_repository_that_somebody_makes_meanwhile_is_not_written_to(hub, checkout):
    hub.faults.append(Fault(CREATE, before=lambda: hub.store.create("models", REPOSITORY)))
    with pytest.raises(UserError, match=r"has just been made \(409"):
        run(checkout)
    assert contents(hub).keys() == {".gitattributes"}


def test_no_network_is_asked_where_the_user_forbade_it(hub, checkout, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set; unset it"):
        run(checkout)


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(hub, checkout, monkeypatch):
    monkeypatch.setattr(repository, "PATIENCE", 0.1)
    hub.faults.append(Fault(WHOAMI, kind="slow"))
    with pytest.raises(UserError, match=r"your account.*the connection broke off \(ReadTimeout\)"):
        run(checkout)
    assert not hub.writes


def test_a_server_that_echoes_the_token_does_not_make_us_print_it(hub, checkout):
    hub.faults.append(Fault(WHOAMI, 403, headers={"X-Error-Message": f"no rights for {TOKEN}"}))
    with pytest.raises(UserError, match=r"no rights for \(token\)") as error:
        run(checkout)
    assert TOKEN not in str(error.value)
