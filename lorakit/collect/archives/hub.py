"""Datasets of the Hugging Face Hub: picture files, zips and parquet tables in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from ... import colab
from ...errors import CollectError
from ...progress import Progress
from . import tables
from .members import Member
from .names import is_hidden
from .zips import ZIP, Zips

NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")
LINK = re.compile(
    r"https?://(?:huggingface\.co|hf\.co)/datasets/([\w.-]+/[\w.-]+)"
    r"(?:/(?:tree|blob|resolve)/([^/?#]+)(?:/([^?#]+))?)?/?(?:[?#].*)?"
)


@dataclass(frozen=True)
class Repo:
    """A dataset on the hub: 'user/name', a branch, and what of it ('' is all)."""

    name: str
    revision: str = "main"
    inside: str = ""

    def __str__(self) -> str:
        return f"the dataset {self.name} on the Hugging Face Hub"


def parse(text: str) -> Repo | None:
    """The dataset that a link or a name means; None for anything else."""
    if found := LINK.fullmatch(text):
        return Repo(found[1], found[2] or "main", (found[3] or "").rstrip("/"))
    return Repo(text) if NAME.fullmatch(text) else None


def members(text: str, zips: Zips, progress: Progress) -> list[Member]:
    """The files of a dataset; pictures are fetched one by one when they are taken, zips and tables
    now. Raises CollectError.
    """
    repo = parse(text)
    assert repo
    found: list[Member] = []
    rows = list(_rows(repo))
    zips.budget.count(len(rows), str(repo))
    for row in rows:
        where = tuple(row.path.split("/"))
        if is_hidden(where):
            continue
        member = _member(repo, row, where)
        if member.suffix == ZIP:
            found += zips.inside(member.link, where, _fetched(repo, row.path, progress), 1)
        elif member.suffix == ".parquet":
            found += tables.members(
                _fetched(repo, row.path, progress), member.link, zips.left, progress
            )
        else:
            found.append(member)
    return [replace(each, path=_below(each.path, repo.inside)) for each in found]


def _below(path: tuple[str, ...], inside: str) -> tuple[str, ...]:
    """`path` without the folder of the dataset that was asked for."""
    folder = tuple(inside.split("/")) if inside else ()
    return path[len(folder) :] if path[: len(folder)] == folder and path != folder else path[-1:]


def _rows(repo: Repo) -> Iterator[Any]:
    """What the hub says of each file that is wanted: path, size, blob_id, lfs."""
    with _plainly(repo):
        listed = _api().list_repo_tree(
            repo.name, recursive=True, repo_type="dataset", revision=repo.revision
        )
        for row in listed:
            below = not repo.inside or f"{row.path}/".startswith(f"{repo.inside}/")
            if below and hasattr(row, "size"):  # folders have none
                yield row


def _member(repo: Repo, row: Any, where: tuple[str, ...]) -> Member:
    """`row.blob_id` is a hash of the content, or of the record of its sha256."""
    link = f"https://huggingface.co/datasets/{repo.name}/blob/{repo.revision}/{row.path}"
    return Member(where, row.size, link, partial(_opened, repo, row.path), f"git:{row.blob_id}")


@contextmanager
def _opened(repo: Repo, path: str) -> Iterator[IO[bytes]]:
    with _fetched(repo, path).open("rb") as stream:
        yield stream


def _fetched(repo: Repo, path: str, progress: Progress | None = None) -> Path:
    """The file in the hub's own cache, fetched if it is not there. Raises CollectError."""
    if progress:
        progress(f"Fetching {path}", 0, 0)
    with _plainly(repo):
        return Path(
            _api().hf_hub_download(repo.name, path, repo_type="dataset", revision=repo.revision)
        )


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=colab.secret("HF_TOKEN"))


@contextmanager
def _plainly(repo: Repo) -> Iterator[None]:
    """The hub's refusals, and those of the way to it, as one sentence."""
    from huggingface_hub.errors import HfHubHTTPError

    # what the library raises that the hub's own speaks HTTP with: requests, httpx, httpx2
    transport: type[BaseException] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise CollectError(_refusal(repo, status, str(error))) from error
    except (OSError, transport) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CollectError(
            f"{repo} could not be reached ({reason}). Check the connection and run again."
        ) from error


def _refusal(repo: Repo, status: int | None, text: str) -> str:
    page = f"https://huggingface.co/datasets/{repo.name}"
    if status in (401, 403, 404):
        return (
            f"The Hugging Face Hub has no dataset {repo.name} that you may read. If {page} is "
            "there, accept its terms and put a token (huggingface.co/settings/tokens) into the "
            "secret or environment variable HF_TOKEN; if a path was meant, nothing is there."
        )
    return f"The Hugging Face Hub did not answer for {repo.name} ({' '.join(text.split())[:200]})."
