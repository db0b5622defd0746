"""The files a model comes in: itself, or a zip of it with its textures, which is unpacked into a
folder that is thrown away afterwards.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import CollectError
from .gltf import LARGEST, Gltf, read_gltf, write_glb

GLTF = (".vrm", ".glb", ".gltf")
F3D = (*GLTF, ".fbx", ".dae", ".obj", ".3ds", ".x", ".stl", ".ply")
BLENDER = (*GLTF, ".blend", ".fbx", ".dae", ".obj", ".stl", ".ply", ".usd", ".usdc", ".usdz",
           ".abc", ".x3d", ".pmx", ".pmd")  # fmt: skip
# Of a model that comes in several formats, the first of these is taken: those with rig and
# materials before those without.
BEST = (".vrm", ".glb", ".gltf", ".blend", ".fbx", ".dae", ".pmx", ".pmd", ".usdz", ".usdc", ".usd",
        ".obj", ".3ds", ".x", ".x3d", ".abc", ".ply", ".stl")  # fmt: skip
MOST_FILES, MOST_BYTES, DENSEST = 5000, 4 << 30, 200  # of a zip: files, bytes, times its size


@dataclass(frozen=True)
class Model:
    """A model's file: what it is called, where it lies, and what its content is known by."""

    name: str
    path: Path
    digest: str

    @property
    def kind(self) -> str:
        """Its suffix, in small letters, with the dot."""
        return self.path.suffix.lower()


def models(item: str, engine: str, folder: Path) -> list[Model]:
    """The models that `item` is or holds; zips are unpacked into `folder`. Raises CollectError."""
    path = Path(item).expanduser()
    if not path.is_file():
        what = "is a folder; name the model in it" if path.is_dir() else "does not exist"
        raise CollectError(f"{item} {what}.")
    kinds = BLENDER if engine == "blender" else F3D
    if path.suffix.lower() != ".zip":
        _openable(path, kinds, engine)
        return [Model(path.stem, path, digest(path))]
    inside = unpack(path, folder / digest(path))
    found = _best([each for each in inside if each.suffix.lower() in BEST])
    if not found:
        raise CollectError(f"There is no 3D model in {path.name}; lorakit knows {_list(BEST)}.")
    usable = [each for each in found if each.suffix.lower() in kinds]
    if not usable:
        _openable(found[0], kinds, engine)
    return [Model(each.stem, each, digest(each)) for each in usable]


def _openable(path: Path, kinds: tuple[str, ...], engine: str) -> None:
    kind = path.suffix.lower()
    if path.stat().st_size > LARGEST:
        raise CollectError(f"{path.name} is larger than 2 GB; lorakit does not open such models.")
    if path.stat().st_size == 0:
        raise CollectError(f"{path.name} is empty. Download it again.")
    if kind in kinds:
        return
    if kind in BEST and engine == "f3d":
        raise CollectError(
            f"f3d does not open {kind} files: choose engine blender for {path.name}."
        )
    if kind in BEST:
        raise CollectError(
            f"Blender does not open {kind} files: choose engine f3d for {path.name}."
        )
    raise CollectError(
        f"{path.name} is no 3D model that lorakit knows: it opens {_list(kinds)}, or a zip of them."
    )


def _list(kinds: tuple[str, ...]) -> str:
    return " ".join(kinds)


def _best(paths: list[Path]) -> list[Path]:
    """One file of each model: a folder often has the same one in several formats."""
    chosen: dict[tuple[Path, str], Path] = {}
    for path in sorted(paths, key=lambda each: (BEST.index(each.suffix.lower()), each)):
        chosen.setdefault((path.parent, path.stem.lower()), path)
    return sorted(chosen.values())


def unpack(path: Path, folder: Path) -> list[Path]:
    """Unpacks a zip into `folder`; returns its files. Raises CollectError for one that is damaged,
    locked, or made to do harm.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _harmless(path.name, members)
            for member in members:
                target = folder / member.filename.replace("\\", "/")
                target.parent.mkdir(parents=True, exist_ok=True)
                _extract(archive, member, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise CollectError(
            f"{path.name} cannot be unpacked ({error}). Download it again."
        ) from error
    return sorted(each for each in folder.rglob("*") if each.is_file())


def _harmless(name: str, members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if len(members) > MOST_FILES or total > MOST_BYTES or total > DENSEST * max(packed, 1 << 20):
        raise CollectError(
            f"{name} would unpack to {len(members)} files of {total / 1e9:.1f} GB: that is no "
            "model."
        )
    for member in members:
        inside = PurePosixPath(member.filename.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in member.filename:
            raise CollectError(f"{name} is refused: {member.filename} points outside of it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise CollectError(f"{name} is refused: {member.filename} is a link.")
        if member.flag_bits & 1:
            raise CollectError(f"{name} is locked with a password; unpack it and zip it anew.")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Writes one file, at most as long as the zip says it is."""
    left = member.file_size
    with archive.open(member) as source, target.open("wb") as out:
        while chunk := source.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile(f"{member.filename} is longer than it says")
            out.write(chunk)


def digest(path: Path) -> str:
    """What a file's content is known by: 16 characters of its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def as_glb(model: Model, gltf: Gltf, folder: Path) -> Path:
    """The path of the model as a .glb in one piece: itself, or a copy in `folder`."""
    if model.kind == ".glb":
        return model.path
    return write_glb(gltf, folder / f"{model.digest}.glb")


def opened(model: Model) -> Gltf | None:
    """The content of a glTF file, whatever its suffix; None for other formats. Raises
    CollectError.
    """
    return read_gltf(model.path) if model.kind in GLTF else None


def missing_beside(model: Model) -> str:
    """A sentence about materials that an .obj names and that are not beside it, or ''."""
    if model.kind != ".obj":
        return ""
    with model.path.open("rb") as file:
        start = file.read(1 << 16).decode("utf-8", "replace").splitlines()
    named = [line.split(maxsplit=1)[1].strip() for line in start if line.startswith("mtllib ")]
    gone = [name for name in named if not (model.path.parent / name).is_file()]
    if not gone:
        return ""
    return (
        f"{gone[0]} is not beside {model.path.name}, so it comes out grey: give a zip of the model "
        "with its materials and textures."
    )
