"""From what `base_model` or `vae` says to a path on this machine, fetching what is missing.

Importing this does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .. import colab
from ..errors import BaseModelError, SaveError
from ..files import write_text
from ..progress import Progress, silent
from ..web import Request
from .download import Check, Download, fetch
from .links import CIVITAI, MENU, VAES, Listed, Source, endpoint, listed, names, parse
from .offers import PARTS, choose, choose_civitai, newest_version
from .tensorfile import Header
from .web import ask

__all__ = ["DEMO", "MENU", "VAES", "Listed", "listed", "names", "parse", "resolve", "resolve_vae"]

log = logging.getLogger(__name__)

NOTES = ".sources.json"
DEMO = Path(__file__).parents[1] / "demo" / "assets" / "base"


def resolve(text: str, folder: str = "", progress: Progress = silent) -> Path:
    """The file or folder on this machine that `base_model` names, downloaded if it is not here.

    `folder` is the setting models_folder. Raises BaseModelError, or SaveError for a full disk.
    """
    here = _local(text, MENU)
    if here:
        return _base_folder(here)
    source = parse(text)
    if source.kind == "demo":
        return _demo()
    if source.kind == "path":
        raise _missing(text, "base model")
    return _Store(source, folder, progress, "base").get()


def resolve_vae(text: str, folder: str = "", progress: Progress = silent) -> Path:
    """As `resolve`, for the setting vae."""
    here = _local(text, VAES)
    if here:
        return here
    source = parse(text, VAES)
    if source.kind in ("path", "demo"):
        raise _missing(text, "VAE")
    return _Store(source, folder, progress, "vae").get()


def _local(text: str, rows: tuple[Listed, ...]) -> Path | None:
    """The path that `text` is, if something is there; 'MyDrive/...' is looked for on Drive. A name
    of the menu is never a path.
    """
    if not text.strip() or "://" in text or listed(text, rows):
        return None
    path = _placed(text)
    return path if path.exists() else None


def _placed(text: str) -> Path:
    """The path that `text` is; 'MyDrive/...' is on Drive unless it is here."""
    path, drive = Path(text.strip()).expanduser(), colab.drive_folder()
    if drive and path.parts[:1] == ("MyDrive",) and not path.exists():
        return drive.joinpath(*path.parts[1:])
    return path


def _demo() -> Path:
    if not DEMO.exists():
        raise BaseModelError(
            f"The embedded base model is missing ({DEMO}). Install lorakit again, or make it: "
            "python -m lorakit demo build"
        )
    return DEMO


def _base_folder(path: Path) -> Path:
    if path.is_dir() and not (path / "unet").is_dir():
        files = ", ".join(sorted(f.name for f in path.glob("*.safetensors"))[:8])
        hint = f" One of these files in it may be meant: {files}." if files else ""
        raise BaseModelError(
            f"{path} is not a diffusers folder (it has no 'unet' inside). Give the folder that "
            f"model_index.json lies in.{hint}"
        )
    return path


def _missing(text: str, what: str) -> BaseModelError:
    path = _placed(text)
    if _needs_drive(path):
        return BaseModelError(f"{path} is on Drive, which is not connected. Run the first cell.")
    rows = names() if what == "base model" else [row.name for row in VAES]
    return BaseModelError(
        f"There is no {what} at {path}. Give a diffusers folder, a .safetensors file, a Hugging "
        f"Face id, a link, or one of: {', '.join(rows)}."
    )


def _needs_drive(path: Path) -> bool:
    """Whether a path is on a Drive that is not there."""
    meant = path.is_relative_to(colab.MOUNT) or path.parts[:1] == ("MyDrive",)
    return meant and colab.in_colab() and not colab.drive_folder()


class _Store:
    """The folder in which downloads are kept: `owner--name/` for the hub, `civitai-VERSION/`,
    `host-HASH/` for other links, and in it the files under their own names. What a text was found
    to mean is noted in NOTES, so that the net is not asked again.
    """

    def __init__(self, source: Source, folder: str, progress: Progress, wanted: str) -> None:
        from .cache import folder as caches

        self.root = _placed(folder) if folder else caches() / "models"
        if _needs_drive(self.root):
            raise BaseModelError(
                f"models_folder ({folder}) is on Drive, which is not connected. Run the first "
                "cell, or choose another folder."
            )
        self.source, self.progress, self.wanted = source, progress, wanted

    def get(self) -> Path:
        """The downloaded file or folder, fetched if it is not here. Raises BaseModelError."""
        what, known = f"{self.wanted} {self.source.text}", self._noted()
        if what in known and (self.root / known[what]).exists():
            return self.root / known[what]
        path = self._fetched()
        if path.is_relative_to(self.root):
            self._note({**known, what: path.relative_to(self.root).as_posix()})
        return path

    def _noted(self) -> dict[str, str]:
        """What texts were found to mean; nothing where the note is damaged."""
        try:
            known = json.loads((self.root / NOTES).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _note(self, known: Mapping[str, str]) -> None:
        """Keeps that for the next time. A folder of models that cannot be written to will do: it is
        only asked again.
        """
        try:
            write_text(self.root / NOTES, json.dumps(known, indent=1) + "\n")
        except SaveError as error:
            log.info("%s", error)

    def _fetched(self) -> Path:
        if self.source.kind == "civitai":
            return self._civitai(self.source)
        if self.source.kind == "link":
            return self._link(self.source.url)
        return self._hub_file(self.source.file, {}) if self.source.file else self._hub_repo()

    def check(self, header: Header) -> None:
        """Raises BaseModelError if the file with this header is not what is wanted."""
        from . import single_file

        look = single_file.configs_of if self.wanted == "base" else single_file.vae_of
        look(self.source.text, header.entries.keys(), header.metadata)

    def _place(self, folder: str, file: str = "") -> Path:
        """A path below the root, whatever a server calls its files."""
        return self.root.joinpath(*(safe_name(step) for step in (folder, *file.split("/")) if step))

    def _hub_place(self, file: str = "") -> Path:
        repo, revision = self.source.repo, self.source.revision
        return self._place((repo + f"@{revision}" * (revision != "main")).replace("/", "--"), file)

    def _hub_file(self, file: str, known: Mapping[str, Any]) -> Path:
        """One file that is all of the model."""
        cached = None if self._hub_place(file).exists() else _in_hub_cache(self.source, file)
        return cached or self._fetch_hub(file, known, self.check)

    def _fetch_hub(self, file: str, known: Mapping[str, Any], check: Check | None = None) -> Path:
        """`known` is what the hub's list of files says of it."""
        source, target = self.source, self._hub_place(file)
        if target.exists():
            return target
        where = f"{source.repo}/resolve/{quote(source.revision, safe='')}/{quote(file)}"
        size, sha256 = int(known.get("size") or 0), (known.get("lfs") or {}).get("sha256")
        download = Download(_hub_request(source, where), target, size, sha256 or "", check)
        return fetch(download, self.progress)

    def _hub_repo(self) -> Path:
        """The diffusers folder or the one file of a repository that nothing more is said of."""
        source, folder = self.source, self._hub_place()
        if self.wanted == "base":
            cached = _in_hub_cache(source, "model_index.json")
            if (folder / "model_index.json").is_file():
                return folder
            if cached and _is_whole(cached.parent):
                return cached.parent
        kind = "" if source.repo.count("/") > 1 else "models/"
        where = f"api/{kind}{source.repo}/revision/{quote(source.revision, safe='')}?blobs=true"
        rows = ask(_hub_request(source, where)).get("siblings") or []
        files = {row["rfilename"]: row for row in rows}
        chosen = choose(files, source.repo, self.wanted)
        if len(chosen) == 1:
            return self._hub_file(chosen[0], files[chosen[0]])
        paths = [self._fetch_hub(file, files[file]) for file in chosen]
        return folder if self.wanted == "base" else paths[0].parent

    def _civitai(self, source: Source) -> Path:
        if source.version and not source.options:
            here = list(self._place(f"civitai-{source.version}").glob("[!.]*.safetensors"))
            if len(here) == 1:
                return here[0]
        api, version = f"{source.site}/api/v1", source.version
        if not version:
            about = ask(_civitai_request(f"{api}/models/{source.model}"))
            version = newest_version(about, source.text)
        about = ask(_civitai_request(f"{api}/model-versions/{version}"))
        file = choose_civitai(about, dict(source.options), source.text)
        name = safe_name(str(file.get("name") or ""))
        name = name if name.lower().endswith(".safetensors") else f"{name}.safetensors"
        url = file.get("downloadUrl") or f"{source.site}/api/download/models/{version}"
        sha256 = str((file.get("hashes") or {}).get("SHA256") or "")
        target = self._place(f"civitai-{version}", name)
        download = Download(_civitai_request(url), target, 0, sha256, self.check)
        return fetch(download, self.progress)

    def _link(self, url: str) -> Path:
        parts, mark = urlsplit(url), hashlib.sha256(url.encode()).hexdigest()[:8]
        name = unquote(parts.path).rpartition("/")[2]
        name = name if name.lower().endswith(".safetensors") else "base.safetensors"
        target = self._place(f"{parts.hostname}-{mark}", name)
        return fetch(Download(Request(url), target, check=self.check), self.progress)


def safe_name(name: str) -> str:
    """`name` as the name of one file or folder anywhere: its last step, without what some file
    systems refuse.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable() and c not in '<>:"|?*').strip(" .")
    return (kept if len(kept) <= 150 else kept[:110] + kept[-40:]) or "base"


def _hub_request(source: Source, where: str) -> Request:
    """An address on the hub, with the user's token. Raises BaseModelError where the hub may not be
    asked at all.
    """
    from huggingface_hub import get_token

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise BaseModelError(
            f"{source.text} is not on this machine, and HF_HUB_OFFLINE forbids fetching it. Unset "
            "that variable, or give a path."
        )
    sentence = (
        f"If https://huggingface.co/{source.repo} is what is meant (no path of that name is here), "
        "open it, accept the licence if it asks, and put a token (huggingface.co/settings/tokens) "
        "into the secret or environment variable HF_TOKEN."
    )
    token = colab.secret("HF_TOKEN") or get_token() or ""
    return Request(f"{endpoint()}/{where}", sentence, token)


def _civitai_request(url: str) -> Request:
    """An address, with the user's key if it is one of Civitai's own."""
    login = (
        "Put an API key (civitai.com, Account settings, API keys) into the secret or environment "
        "variable CIVITAI_TOKEN, then run again."
    )
    ours = {urlsplit(site).netloc for site in CIVITAI.values()}
    token = colab.secret("CIVITAI_TOKEN") if urlsplit(url).netloc in ours else None
    return Request(url, login, token or "")


def _in_hub_cache(source: Source, file: str) -> Path | None:
    """The file, if the hub's own library has fetched it before."""
    from huggingface_hub import try_to_load_from_cache

    if source.repo.count("/") > 1:  # datasets/... and spaces/...
        return None
    found = try_to_load_from_cache(source.repo, file, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _is_whole(folder: Path) -> bool:
    """Whether a diffusers folder has all parts: a cache may hold some of them only."""
    return (folder / "scheduler" / "scheduler_config.json").is_file() and all(
        (folder / part / "config.json").is_file() and any((folder / part).glob("*.safetensors"))
        for part in PARTS
    )
