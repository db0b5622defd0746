"""A finished LoRA on the Hugging Face Hub: the file, its card and its previews, in one commit.

Private unless asked otherwise. The token is the secret or environment variable HF_TOKEN (with write
access), or the one this machine is logged in with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from .. import __version__, colab
from ..errors import SaveError, SettingsError
from ..project import Project
from .card import refresh_card

# What the library raises that huggingface_hub speaks HTTP with (requests, since 1.0 httpx, since
# 2.0 httpx2): its own error is one of these.
HTTP_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
TOKENS = "https://huggingface.co/settings/tokens"
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SHOWN = re.compile(r"previews/[^\s\"')]+")


@dataclass(frozen=True)
class Uploaded:
    """What is on the Hub now: the page, and the files by their names there."""

    url: str
    private: bool
    files: tuple[str, ...]


def upload(
    project: Project, repo: str, private: bool = True, token: str = "", epochs: bool = False
) -> Uploaded:
    """Uploads the project's LoRA, its card (made first, unless it was written by hand) and the
    previews the card shows to `repo` ('owner/name'); with `epochs` the LoRA files of all epochs.

    Raises LoraFileError if nothing is trained yet, SettingsError for a wrong name, a missing token
    or a page that is public already, SaveError if the Hub refuses or cannot be reached.
    """
    if not REPO.fullmatch(repo) or "--" in repo or ".." in repo:
        raise SettingsError(
            f"'{repo}' is not a place on the Hub; write owner/name, like jane/astrid."
        )
    readme = refresh_card(project, repo)
    files = chosen(project, readme, epochs)
    api = HfApi(token=_token(token), library_name="lorakit", library_version=__version__)
    with _plainly(repo):
        url = str(api.create_repo(repo, private=private, exist_ok=True))
        is_private = bool(api.model_info(repo).private)
    if private and not is_private:
        raise SettingsError(
            f"{url} is there already, and public; nothing was uploaded. Upload with --public, or "
            "choose another name."
        )
    names = [file.relative_to(project.output).as_posix() for file in files]
    operations = [
        CommitOperationAdd(name, str(file)) for name, file in zip(names, files, strict=True)
    ]
    with _plainly(repo):
        api.create_commit(repo, operations, commit_message=f"Upload {project.name} with lorakit")
    return Uploaded(url, is_private, tuple(names))


def chosen(project: Project, readme: Path, epochs: bool) -> list[Path]:
    """The files to upload: the card, the LoRA (diffusers' too), what the card shows."""
    output, name = project.output, project.name
    text = readme.read_text(encoding="utf-8")
    pictures = [output / found for found in dict.fromkeys(SHOWN.findall(text))]
    loras = [output / f"{name}.safetensors", output / f"{name}-diffusers.safetensors"]
    if epochs:
        numbered = (p for p in output.glob("*.safetensors") if p.name.startswith(f"{name}-"))
        loras += sorted(p for p in numbered if re.fullmatch(r"-(step)?\d+", p.stem[len(name) :]))
    inside = output.resolve()
    return [
        readme,
        *(path for path in loras if path.is_file()),
        *(p for p in pictures if p.is_file() and p.resolve().is_relative_to(inside)),
    ]


def _token(given: str) -> str:
    token = colab.secret("HF_TOKEN", given)
    if not token and not colab.in_colab():
        token = huggingface_hub.get_token()
    if not token:
        raise SettingsError(
            f"There is no Hugging Face token. Make one with write access at {TOKENS} and put it "
            "into the secret (or environment variable) HF_TOKEN."
        )
    return token


@contextmanager
def _plainly(repo: str) -> Iterator[None]:
    """The Hub's refusals, and those of the way to it, as one sentence."""
    try:
        yield
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise SaveError(_refusal(repo, status, str(error))) from error
    except (OSError, HTTP_ERROR) as error:
        raise SaveError(
            f"The Hugging Face Hub could not be reached ({error or type(error).__name__}). Check "
            "the connection and upload again."
        ) from error


def _refusal(repo: str, status: int | None, text: str) -> str:
    if status == 401:
        return (
            "The Hugging Face Hub does not know the token in HF_TOKEN. Make one with write access "
            f"at {TOKENS}."
        )
    if status in (403, 404):
        owner = repo.partition("/")[0]
        return (
            f"The token in HF_TOKEN may not write to {repo}. Use one with write access ({TOKENS}), "
            f"and check that '{owner}' is you or your organisation."
        )
    reason = " ".join(text.split())[:200]
    return f"The Hugging Face Hub did not take {repo} ({reason}). Try again later."
