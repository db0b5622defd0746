"""Uploading to the Hub, against a server on this machine that speaks the endpoints of one commit:
create, info, validate-yaml, preupload and commit (with the files in it, as the Hub takes small
ones; large ones go by LFS or Xet, which is huggingface_hub's own affair and not tested here).
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from lorakit.errors import LoraFileError, SaveError, SettingsError
from lorakit.project import Project, find
from lorakit.training import hub

from .test_card import trained

REPO = "jane/astrid"


class Hub(ThreadingHTTPServer):
    """The Hub as far as an upload needs it. `files` are what was committed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []  # method, path, token
        self.exists, self.private, self.refuses = False, False, 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if self.refuses:
            return self.refuses, {"error": "no"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path in (f"/api/models/{REPO}", f"/api/models/{REPO}/revision/main"):
            about = {"private": self.private, "tags": [], "siblings": [], "xetEnabled": False}
            return 200, {"id": REPO, **about}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            mode = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return 200, {"files": [{"path": name, **mode} for name in names]}
        if path.endswith("/commit/main"):
            return self._commit([json.loads(line) for line in body.splitlines()])
        return 404, {"error": f"{path} is not spoken here"}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        url = {"url": f"{self.address}/{REPO}"}
        if self.exists:
            return 409, {"error": "You already created this model repo", **url}
        private = wanted.get("private", wanted.get("visibility") == "private")
        self.exists, self.private = True, bool(private)
        return 200, url

    def _commit(self, lines: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        assert lines[0]["key"] == "header"
        for line in lines[1:]:
            assert line["key"] == "file"
            self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return 200, {"commitUrl": f"https://huggingface.co/{REPO}/commit/1", "commitOid": "1"}


class Answers(BaseHTTPRequestHandler):
    def _do(self) -> None:
        server: Any = self.server
        path = self.path.partition("?")[0]
        server.asked.append((self.command, path, self.headers.get("authorization", "")))
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, value = server.answer(path, body)
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _do

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine, and a token for it."""
    made = Hub()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(hub, "HfApi", partial(HfApi, endpoint=made.address))
    monkeypatch.setenv("HF_TOKEN", "hf_of_jane")
    yield made
    made.shutdown()
    made.server_close()


def test_the_lora_its_card_and_the_shown_previews_arrive_byte_for_byte(
    server: Hub, tmp_path: Path
) -> None:
    project = trained(tmp_path)
    (project.output / "astrid-000002.safetensors").write_bytes(b"of an epoch")
    (project.output / "state.bin").write_bytes(b"not for others")
    done = hub.upload(project, REPO)
    shown = [f"previews/epoch-010-0{i}.png" for i in range(4)]
    assert list(done.files) == ["README.md", "astrid.safetensors", *shown]
    assert set(server.files) == set(done.files)
    for name, data in server.files.items():
        assert data == (project.output / name).read_bytes()
    assert f"load_lora_weights('{REPO}'" in server.files["README.md"].decode()
    assert (done.url, done.private) == (f"{server.address}/{REPO}", True)


def test_it_is_private_unless_asked_otherwise(server: Hub, tmp_path: Path) -> None:
    project = trained(tmp_path)
    hub.upload(project, REPO)
    assert server.private
    server.exists = False
    assert hub.upload(project, REPO, private=False).private is False
    assert not server.private


def test_the_token_goes_with_every_request(server: Hub, tmp_path: Path) -> None:
    hub.upload(trained(tmp_path), REPO)
    asked = [token for _, path, token in server.asked if path != "/api/validate-yaml"]
    assert asked and set(asked) == {"Bearer hf_of_jane"}


def test_nothing_goes_to_a_page_that_is_public_already(server: Hub, tmp_path: Path) -> None:
    server.exists, server.private = True, False
    with pytest.raises(
        SettingsError, match="jane/astrid is there already, and public; nothing was"
    ):
        hub.upload(trained(tmp_path), REPO)
    assert not server.files


def test_a_second_upload_goes_to_the_same_page(server: Hub, tmp_path: Path) -> None:
    project = trained(tmp_path)
    hub.upload(project, REPO)
    server.files.clear()
    assert "astrid.safetensors" in hub.upload(project, REPO).files
    assert "astrid.safetensors" in server.files


def test_epochs_and_the_diffusers_file_come_along_when_asked(server: Hub, tmp_path: Path) -> None:
    project = trained(tmp_path)
    for name in ("astrid-000002", "astrid-step00000500", "astrid-diffusers", "astrid-small", "b"):
        (project.output / f"{name}.safetensors").write_bytes(name.encode())
    found = hub.upload(project, REPO, epochs=True).files
    assert [name for name in found if name.endswith(".safetensors")] == [
        "astrid.safetensors",
        "astrid-diffusers.safetensors",
        "astrid-000002.safetensors",
        "astrid-step00000500.safetensors",
    ]


def test_a_card_written_by_hand_goes_as_it_is_with_the_pictures_it_shows(
    server: Hub, tmp_path: Path
) -> None:
    project = trained(tmp_path)
    (tmp_path / "secret.png").write_bytes(b"x")
    (project.output / "README.md").write_text(
        "mine ![](previews/epoch-002-00.png) ![](previews/../../../secret.png) ![](previews/no.png)"
    )
    assert hub.upload(project, REPO).files == (
        *("README.md", "astrid.safetensors"),
        "previews/epoch-002-00.png",
    )
    assert server.files["README.md"].startswith(b"mine")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not know the token in HF_TOKEN. Make one with write access at https://hugg"),
        (403, "may not write to jane/astrid. Use one with write access .* 'jane' is you"),
        (418, "did not take jane/astrid .*Try again later"),
    ],
)
def test_a_refusal_is_one_sentence_that_says_what_to_do(
    server: Hub, tmp_path: Path, status: int, said: str
) -> None:
    server.refuses = status
    with pytest.raises(SaveError, match=said) as error:
        hub.upload(trained(tmp_path), REPO)
    assert "\n" not in str(error.value) and "hf_of_jane" not in str(error.value)


def test_a_hub_that_cannot_be_reached_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9"))
    with pytest.raises(SaveError, match="The Hugging Face Hub could not be reached .*Check the"):
        hub.upload(trained(tmp_path), REPO, token="hf_x")


def test_without_a_token_it_says_where_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(hub.huggingface_hub, "get_token", lambda: None)
    with pytest.raises(SettingsError, match="There is no Hugging Face token. Make one with write"):
        hub.upload(trained(tmp_path), REPO)


@pytest.mark.parametrize("repo", ["astrid", "a/b/c", "jane/", "../x", "jane/a b", "jane/a--b", ""])
def test_a_name_that_is_no_place_on_the_hub_is_refused(tmp_path: Path, repo: str) -> None:
    project: Project = trained(tmp_path)
    with pytest.raises(
        SettingsError, match=f"'{repo}' is not a place on the Hub; write owner/name"
    ):
        hub.upload(project, repo)


def test_without_a_lora_file_nothing_is_asked_of_the_hub(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="Train first"):
        hub.upload(find(str(tmp_path / "empty")).create(), REPO)
    assert not server.asked
