"""What base_model names comes onto this machine: from the hub, from Civitai, from a link, from a
path. The servers are one on this machine that speaks as they do.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lorakit import colab
from lorakit.errors import BaseModelError
from lorakit.training import download, links, sources, web
from lorakit.training.base import load_base
from lorakit.training.saving import save_single_file
from lorakit.training.sources import resolve, resolve_vae, safe_name

from .servers import Reply, Running, Web, checkpoint, saved

FILE = checkpoint()
SD15 = {"cond_stage_model.x": (2,)}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """The server as the hub; no token, and a hub cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(web, "PAUSE", 0.0)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    for name in ("HF_TOKEN", "CIVITAI_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with Running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def civitai(site: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The server as Civitai."""
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setitem(links.CIVITAI, urlsplit(site.url).netloc, site.url)
    return site


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "models")


def refused(text: str, folder: str = "") -> str:
    with pytest.raises(BaseModelError) as error:
        resolve(text, folder)
    return str(error.value)


# --- the hub --------------------------------------------------------------------------------------


def test_a_file_on_the_hub_is_fetched_checked_and_kept_under_its_name(
    site: Web, folder: str
) -> None:
    site.hub_file("owner/name", "base.safetensors", FILE)
    path = resolve("owner/name/base.safetensors", folder)
    assert path == Path(folder, "owner--name", "base.safetensors")
    assert path.read_bytes() == FILE
    asked = len(site.asked)
    assert resolve(f"{site.url}/owner/name/blob/main/base.safetensors", folder) == path
    assert len(site.asked) == asked, "what is here is not asked for again"


def test_a_name_of_the_menu_is_its_file_on_the_hub(site: Web, folder: str) -> None:
    repo, file = "Laxhar/noobai-XL-Vpred-1.0", "NoobAI-XL-Vpred-v1.0.safetensors"
    site.hub_file(repo, file, FILE)
    path = resolve("NoobAI V-Pred 1.0", folder)
    assert path.name == file and path.parent.name == "Laxhar--noobai-XL-Vpred-1.0"


def test_the_checksum_that_the_hub_states_is_held_against_the_bytes(site: Web, folder: str) -> None:
    site.hub_file("owner/name", "base.safetensors", FILE)
    (store,) = site.files
    site.files[store] = checkpoint(seed=1)
    said = refused("owner/name/base.safetensors", folder)
    assert "checksum (SHA-256) is not the one its source states" in said
    assert saved(Path(folder)) == []


def test_a_gated_model_says_what_to_do_and_opens_with_the_token(
    site: Web, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.hub_file("owner/name", "base.safetensors", FILE, gated="hf_mine")
    said = refused("owner/name/base.safetensors", folder)
    assert "its licence must be accepted first" in said
    assert "https://huggingface.co/owner/name" in said and "HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert resolve("owner/name/base.safetensors", folder).read_bytes() == FILE
    assert all("authorization" not in a.headers for a in site.asked if a.host == "localhost")


def test_the_token_may_be_colabs_secret(
    site: Web, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.hub_file("owner/name", "base.safetensors", FILE, gated="hf_colab")
    monkeypatch.setattr(colab, "secret", lambda name: {"HF_TOKEN": "hf_colab"}.get(name))
    assert resolve("owner/name/base.safetensors", folder).exists()


def test_a_repository_with_one_checkpoint_is_that_checkpoint(site: Web, folder: str) -> None:
    site.hub_list("owner/name", {"README.md": b"hello", "base.safetensors": FILE})
    assert resolve("owner/name", folder) == Path(folder, "owner--name", "base.safetensors")


@pytest.mark.parametrize("what", [resolve, resolve_vae])
def test_what_a_repository_was_found_to_mean_needs_no_net_the_next_time(
    site: Web, folder: str, monkeypatch: pytest.MonkeyPatch, what: Callable[[str, str], Path]
) -> None:
    vae = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": FILE}
    site.hub_list("owner/name", vae if what is resolve_vae else {"base.safetensors": FILE})
    path = what("owner/name", folder)
    site.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert what("owner/name", folder) == path and not site.asked
    monkeypatch.delenv("HF_HUB_OFFLINE")
    shutil.rmtree(Path(folder, "owner--name"))
    assert what("owner/name", folder) == path and path.exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", None])
def test_a_note_that_cannot_be_read_or_written_hinders_nothing(
    site: Web, folder: str, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    site.hub_list("owner/name", {"base.safetensors": FILE})
    path = resolve("owner/name", folder)
    if damage is None:
        Path(folder, sources.NOTES).unlink()
        Path(folder, sources.NOTES).mkdir()
    else:
        Path(folder, sources.NOTES).write_text(damage)
    site.asked.clear()
    assert resolve("owner/name", folder) == path
    assert site.paths() == ["/api/models/owner/name/revision/main"]


def test_a_diffusers_repository_comes_part_by_part_and_loads(site: Web, folder: str) -> None:
    content = {
        str(path.relative_to(sources.DEMO)): path.read_bytes()
        for path in sources.DEMO.rglob("*")
        if path.is_file() and "tokenizer" not in str(path)
    }
    site.hub_list("owner/name", content | {"unet/model.onnx": b"x", "other.safetensors": FILE})
    path = resolve("owner/name", folder)
    assert saved(path) == sorted(content)
    assert load_base(str(path)).unet.dtype
    site.asked.clear()
    assert resolve("owner/name", folder) == path and not site.asked


def test_a_diffusers_repository_that_broke_off_is_completed(site: Web, folder: str) -> None:
    content = {
        str(path.relative_to(sources.DEMO)): path.read_bytes()
        for path in sources.DEMO.rglob("*")
        if path.is_file()
    }
    site.hub_list("owner/name", content)
    missing = site.files.pop("/owner/name/resolve/main/scheduler/scheduler_config.json")
    assert "There is nothing at" in refused("owner/name", folder)
    site.files["/owner/name/resolve/main/scheduler/scheduler_config.json"] = missing
    site.asked.clear()
    resolve("owner/name", folder)
    assert not [path for path in site.paths() if path.endswith(".safetensors")]


def test_a_repository_that_is_not_there_is_not_taken_for_a_missing_login_only(
    site: Web, folder: str
) -> None:
    site.pages["/api/models/no/body/revision/main"] = Reply(
        401, b"", {"X-Error-Code": "RepoNotFound"}
    )
    said = refused("no/body", folder)
    assert "there is no such repository, or it is private" in said
    assert "no path of that name is here" in said


def test_what_the_hubs_own_library_has_fetched_is_used(
    site: Web, folder: str, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("1" * 40)
    (snapshot / "base.safetensors").write_bytes(FILE)
    assert resolve("owner/name/base.safetensors", folder) == snapshot / "base.safetensors"
    assert not site.asked


def test_offline_the_hub_is_not_asked(
    site: Web, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids fetching it" in refused("SDXL 1.0", folder)
    assert not site.asked


# --- Civitai --------------------------------------------------------------------------------------


def test_a_civitai_page_is_its_newest_version(civitai: Web, folder: str) -> None:
    civitai.page("/api/v1/models/7", {"modelVersions": [{"id": 30}, {"id": 20}]})
    civitai.civitai_version(30, "newest.safetensors", FILE)
    path = resolve(f"{civitai.url}/models/7/some-name", folder)
    assert path == Path(folder, "civitai-30", "newest.safetensors")
    civitai.page("/api/v1/models/7", {"modelVersions": [{"id": 40}, {"id": 30}]})
    again = resolve(f"{civitai.url}/models/7/some-name", folder)
    assert again == path, "a page's newer version does not come into a project that is begun"


def test_a_civitai_version_that_is_here_needs_no_net(civitai: Web, folder: str) -> None:
    civitai.civitai_version(20, "older.safetensors", FILE)
    path = resolve(f"{civitai.url}/models/7?modelVersionId=20", folder)
    assert path.read_bytes() == FILE
    civitai.asked.clear()
    assert resolve(f"{civitai.url}/models/7?modelVersionId=20", folder) == path
    assert resolve(f"{civitai.url}/model-versions/20", folder) == path
    assert not civitai.asked


def test_civitais_login_page_is_recognised_and_the_key_opens(
    civitai: Web, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    civitai.civitai_version(30, "a.safetensors", FILE, token="key")
    said = refused(f"{civitai.url}/api/download/models/30", folder)
    assert "asks for a login" in said and "CIVITAI_TOKEN" in said
    assert saved(Path(folder)) == []
    monkeypatch.setenv("CIVITAI_TOKEN", "wrong")
    assert "The token that was sent does not open it" in refused(
        f"{civitai.url}/api/download/models/30", folder
    )
    monkeypatch.setenv("CIVITAI_TOKEN", "key")
    assert resolve(f"{civitai.url}/api/download/models/30", folder).read_bytes() == FILE
    assert all("authorization" not in a.headers for a in civitai.asked if a.host == "localhost")


def test_the_checksum_that_civitai_states_is_held_against_the_bytes(
    civitai: Web, folder: str
) -> None:
    civitai.civitai_version(30, "a.safetensors", FILE)
    civitai.files["/r2/30"] = checkpoint(seed=1)
    assert "checksum" in refused(f"{civitai.url}/model-versions/30", folder)


@pytest.mark.parametrize(
    "name",
    ["../../evil.safetensors", "..\\evil.safetensors", "/etc/evil", ".hidden", "", "a\0b/.."],
)
def test_no_name_from_a_server_leads_out_of_the_folder(
    civitai: Web, folder: str, name: str
) -> None:
    civitai.civitai_version(30, name, FILE)
    path = resolve(f"{civitai.url}/model-versions/30", folder)
    assert path.parent == Path(folder, "civitai-30") and path.suffix == ".safetensors"
    assert path.resolve().is_relative_to(Path(folder).resolve())
    assert saved(Path(folder).parent) == [f"models/civitai-30/{path.name}"]


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("a b (1).safetensors", "a b (1).safetensors"),
        ("x/../y.safetensors", "y.safetensors"),
        ('w<h>a:t"?*|.safetensors', "what.safetensors"),
        ("..", "base"),
        ("...hidden", "hidden"),
        ("тест.safetensors", "тест.safetensors"),
        ("a" * 300 + ".safetensors", "a" * 110 + "a" * 28 + ".safetensors"),
    ],
)
def test_names_are_made_fit_for_every_file_system(name: str, wanted: str) -> None:
    assert safe_name(name) == wanted


# --- links and paths ------------------------------------------------------------------------------


def test_a_direct_link_keeps_its_file_name(site: Web, folder: str) -> None:
    site.files["/some/base one.safetensors"] = FILE
    path = resolve(f"{site.elsewhere}/some/base%20one.safetensors", folder)
    assert path.name == "base one.safetensors" and path.parent.name.startswith("localhost-")
    site.files["/get"] = checkpoint(seed=1)
    first, second = (resolve(f"{site.elsewhere}/get?n={n}", folder) for n in (1, 2))
    assert first.name == second.name == "base.safetensors" and first != second


def test_another_kind_of_model_is_refused_before_it_is_all_here(site: Web, folder: str) -> None:
    import torch
    from safetensors.torch import save

    tensors = {name: torch.zeros(shape) for name, shape in SD15.items()}
    site.files["/old.safetensors"] = save(tensors | {"z": torch.zeros(3_000_000)})
    said = refused(f"{site.elsewhere}/old.safetensors", folder)
    assert "old.safetensors is not an SDXL checkpoint" in said
    assert "looks like Stable Diffusion 1 or 2" in said
    assert saved(Path(folder)) == []


def test_a_link_that_leads_to_a_page_says_so(site: Web, folder: str) -> None:
    site.pages["/share"] = Reply(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"})
    assert "gave a web page in place of a file" in refused(f"{site.elsewhere}/share", folder)


def test_downloads_are_kept_in_the_cache_when_no_folder_is_set(
    site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site.hub_file("owner/name", "base.safetensors", FILE)
    path = resolve("owner/name/base.safetensors")
    assert path.is_relative_to(tmp_path / "cache" / "lorakit" / "models")


def test_a_path_that_is_here_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name.safetensors").write_bytes(FILE)
    for text in ("owner/name.safetensors", "~/owner/name.safetensors", str(tmp_path / "owner")):
        if text.endswith("owner"):
            assert "One of these files in it may be meant: name.safetensors" in refused(text)
        else:
            assert resolve(text).read_bytes() == FILE


def test_a_path_on_drive_may_begin_with_mydrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colab, "MOUNT", tmp_path)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert "is on Drive, which is not connected" in refused(str(tmp_path / "MyDrive" / "x"))
    (tmp_path / "MyDrive" / "sd").mkdir(parents=True)
    (tmp_path / "MyDrive" / "sd" / "x.safetensors").write_bytes(FILE)
    assert resolve("MyDrive/sd/x.safetensors") == tmp_path / "MyDrive" / "sd" / "x.safetensors"
    assert "There is no base model at" in refused("MyDrive/sd/y.safetensors")


def test_downloads_may_be_kept_on_drive(
    site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colab, "MOUNT", tmp_path / "drive")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(colab, "secret", lambda name: None)
    site.hub_file("owner/name", "base.safetensors", FILE)
    for folder in ("MyDrive/models", str(tmp_path / "drive" / "MyDrive" / "models")):
        assert "is on Drive, which is not connected" in refused(
            "owner/name/base.safetensors", folder
        )
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    path = resolve("owner/name/base.safetensors", "MyDrive/models")
    assert path.is_relative_to(tmp_path / "drive" / "MyDrive" / "models")


def test_a_path_that_is_not_here_says_what_can_be_given(tmp_path: Path) -> None:
    said = refused(str(tmp_path / "nowhere.safetensors"))
    assert "There is no base model at" in said and "Illustrious XL 0.1" in said
    with pytest.raises(BaseModelError, match="There is no VAE at .*fp16-fix, sdxl"):
        resolve_vae(str(tmp_path / "nowhere.safetensors"))


def test_demo_is_the_embedded_base_whatever_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert resolve("demo") == sources.DEMO


def test_the_mended_vae_comes_from_the_menu(site: Web, folder: str) -> None:
    import torch
    from safetensors.torch import save

    names = ("encoder.conv_in.weight", "decoder.conv_in.weight")
    vae = save({name: torch.zeros(3) for name in names})
    site.hub_file("madebyollin/sdxl-vae-fp16-fix", "sdxl_vae.safetensors", vae)
    assert resolve_vae("fp16-fix", folder).read_bytes() == vae
    site.hub_file("owner/name", "base.safetensors", save({"lora_unet_x": torch.zeros(3)}))
    with pytest.raises(BaseModelError, match="holds no VAE for SDXL"):
        resolve_vae("owner/name/base.safetensors", folder)


# --- without the hub ------------------------------------------------------------------------------

OFFLINE = """
import socket, sys
def no(*arguments, **more):
    raise SystemExit("something asked the net")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = no
from lorakit.training.base import load_base
base = load_base(sys.argv[1])
print(base.unet.config.cross_attention_dim, len(base.tokenizers[1]))
"""


def test_a_single_file_loads_with_the_hub_off_and_no_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_single_file("demo", tmp_path / "base.safetensors")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    said = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(file)], capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 0, said.stderr[-2000:]
    assert said.stdout.split() == ["160", "49408"]


def test_asking_for_a_place_does_not_load_torch() -> None:
    code = "import sys; from lorakit.training import sources; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert said.stdout.strip() == "False", said.stderr[-2000:]
