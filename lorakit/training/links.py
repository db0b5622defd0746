"""What `base_model` and `vae` may say: a name from the menu, a Hugging Face id or link, a Civitai
page or version, a direct link, or a path. Reading the text touches neither disk nor net.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import BaseModelError
from .tensorfile import refuse_pickle

FAIR = "Fair AI Public License 1.0-SD"
RAIL = "CreativeML Open RAIL++-M"


@dataclass(frozen=True)
class Listed:
    """A row of the menu. `where` is what the user would write without it; `prediction` and
    `zero_terminal_snr` are what is known of the base model, should its file not say.
    """

    name: str
    where: str
    licence: str
    prediction: str = ""
    zero_terminal_snr: bool = False


# Repositories and file names are those that many public projects name; they could not be tried
# where this was written (no internet).
MENU = (
    Listed("demo", "demo", "Apache-2.0"),
    Listed(
        "Illustrious XL 0.1",
        "OnomaAIResearch/Illustrious-xl-early-release-v0/Illustrious-XL-v0.1.safetensors",
        FAIR,
        "epsilon",
    ),
    Listed(
        "Pony Diffusion V6 XL",
        "LyliaEngine/Pony_Diffusion_V6_XL/ponyDiffusionV6XL_v6StartWithThisOne.safetensors",
        f"{FAIR}, changed: no paid generation service without its maker's leave",
        "epsilon",
    ),
    Listed(
        "NoobAI Eps 1.1",
        "Laxhar/noobai-XL-1.1/NoobAI-XL-v1.1.safetensors",
        f"{FAIR}, and no commercial use",
        "epsilon",
    ),
    Listed(
        "NoobAI V-Pred 1.0",
        "Laxhar/noobai-XL-Vpred-1.0/NoobAI-XL-Vpred-v1.0.safetensors",
        f"{FAIR}, and no commercial use",
        "v_prediction",
        zero_terminal_snr=True,
    ),
    Listed(
        "Animagine XL 3.1",
        "cagliostrolab/animagine-xl-3.1/animagine-xl-3.1.safetensors",
        FAIR,
        "epsilon",
    ),
    Listed(
        "Animagine XL 4.0",
        "cagliostrolab/animagine-xl-4.0/animagine-xl-4.0.safetensors",
        RAIL,
        "epsilon",
    ),
    Listed(
        "SDXL 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0/sd_xl_base_1.0.safetensors",
        RAIL,
        "epsilon",
    ),
)
VAES = (
    Listed("fp16-fix", "madebyollin/sdxl-vae-fp16-fix/sdxl_vae.safetensors", "MIT"),
    Listed("sdxl", "stabilityai/sdxl-vae/sdxl_vae.safetensors", "MIT"),
)
CIVITAI = {"civitai.com": "https://civitai.com", "civitai.red": "https://civitai.red"}
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
OWNER = r"[A-Za-z0-9][\w.-]*"
TOKENS = ("token", "api_key", "apikey", "access_token")


@dataclass(frozen=True)
class Source:
    """What a text names. `kind` is 'path', 'demo', 'hub', 'civitai' or 'link'; the fields that do
    not belong to it are empty. `options` are those of a Civitai link that choose among files.
    """

    kind: str
    text: str
    repo: str = ""
    file: str = ""
    revision: str = "main"
    site: str = ""
    model: int = 0
    version: int = 0
    options: tuple[tuple[str, str], ...] = ()
    url: str = ""


def names() -> list[str]:
    """The names of the menu, for a form."""
    return [row.name for row in MENU]


def listed(text: str, rows: tuple[Listed, ...] = MENU) -> Listed | None:
    """The row of the menu that `text` names; case, spaces and dashes do not count."""
    return next((row for row in rows if _plain(row.name) == _plain(text)), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.lower())


def parse(text: str, rows: tuple[Listed, ...] = MENU) -> Source:
    """What `text` names, without looking whether it is there. Raises BaseModelError."""
    text = text.strip().strip("\"'")
    if not text:
        raise BaseModelError("base_model is empty. Choose a name from the menu, a link or a path.")
    row = listed(text, rows)
    if row:
        return Source("demo", text) if row.where == "demo" else replace(parse(row.where), text=text)
    host = text.lower().removeprefix("www.").partition("/")[0]
    if re.match(r"https?://", text, re.I):
        return _link(text)
    if host in CIVITAI or host in _hub_hosts():
        return _link(f"https://{text}")
    refuse_pickle(text, text)
    found = re.fullmatch(rf"({OWNER}/{OWNER})(?:/(.+\.safetensors))?", text)
    if found and not found[1].startswith("MyDrive/") and not found[1].endswith(".safetensors"):
        return Source("hub", text, repo=found[1], file=_inside(found[2] or "", text))
    return Source("path", text)


def _link(text: str) -> Source:
    parts = urlsplit(text)
    host = (parts.netloc or "").lower().removeprefix("www.")
    options = tuple(parse_qsl(parts.query))
    if "@" in host or any(name.lower() in TOKENS for name, _ in options):
        raise BaseModelError(
            "The link of the base model carries a token, which would be written into project.toml "
            "and into the LoRA file. Take it out of the link and put it into the secret "
            "CIVITAI_TOKEN or HF_TOKEN."
        )
    path = [unquote(step) for step in parts.path.split("/") if step]
    if host in _hub_hosts():
        return _hub_link(text, path)
    if host in CIVITAI:
        return _civitai_link(text, host, path, dict(options))
    if host in ("drive.google.com", "docs.google.com"):
        return _drive_link(text, path, dict(options))
    refuse_pickle(parts.path, text)
    return Source("link", text, url=text)


def _hub_hosts() -> tuple[str, ...]:
    return "huggingface.co", "hf.co", urlsplit(endpoint()).netloc.lower()


def endpoint() -> str:
    """Where the hub is: huggingface.co, or the mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _hub_link(text: str, path: list[str]) -> Source:
    kind = f"{path.pop(0)}/" if path and path[0] in ("datasets", "spaces") else ""
    if len(path) < 2:
        raise BaseModelError(
            f"{text} is not the page of a model. It should look like "
            "https://huggingface.co/owner/name."
        )
    repo, page, rest = kind + "/".join(path[:2]), "".join(path[2:3]), path[3:]
    if page in ("blob", "resolve", "raw") and len(rest) > 1:
        refuse_pickle(rest[-1], text)
        file = _inside("/".join(rest[1:]), text)
        return Source("hub", text, repo=repo, file=file, revision=rest[0])
    if page == "tree" and len(rest) > 1:
        raise BaseModelError(
            f"{text} is a folder inside a repository. Give the link of the repository or of one "
            "file."
        )
    return Source("hub", text, repo=repo, revision=rest[0] if page == "tree" and rest else "main")


def _civitai_link(text: str, host: str, path: list[str], options: dict[str, str]) -> Source:
    source = Source("civitai", text, site=CIVITAI[host])
    where = "/".join(path)
    version = re.search(r"(?:^|/)(?:model-versions|download/models)/(\d+)", where)
    model = re.match(r"(?:api/v1/)?models/(\d+)", where)
    chosen = tuple((k, v) for k, v in options.items() if k in ("type", "format", "size", "fp"))
    if version:
        return replace(source, version=int(version[1]), options=chosen)
    if model and options.get("modelVersionId", "").isdecimal():
        return replace(source, model=int(model[1]), version=int(options["modelVersionId"]))
    if model:
        return replace(source, model=int(model[1]))
    raise BaseModelError(
        f"{text} is not the page of a model. It should look like https://civitai.com/models/257749."
    )


def _drive_link(text: str, path: list[str], options: dict[str, str]) -> Source:
    """A shared file of Google Drive; the page itself holds no file."""
    number = path[2] if path[:2] == ["file", "d"] and len(path) > 2 else options.get("id", "")
    if not re.fullmatch(r"[\w-]+", number):
        raise BaseModelError(
            f"{text} is not the link of one shared file. Share the .safetensors file itself, or "
            "connect Drive and give its path."
        )
    return Source("link", text, url=DRIVE + number)


def _inside(file: str, text: str) -> str:
    if any(step in ("", ".", "..") for step in file.split("/")) and file:
        raise BaseModelError(f"{text} is not the name of a file in a repository.")
    return file
