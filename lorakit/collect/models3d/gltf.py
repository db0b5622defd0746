"""Reading and writing glTF 2.0 (.glb, .gltf, .vrm): JSON that names pieces of one binary block.

Only what posing needs: the file as it is, its numbers as arrays, nodes changed. Meshes, materials
and extensions pass through untouched. Source: Khronos glTF 2.0 specification, sections 3 and 4.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ...errors import CollectError

MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", 0x4E4F534A, 0x004E4942
COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
LARGEST = 2 << 30  # bytes of one model file; more than a character ever has


@dataclass
class Gltf:
    """A glTF file in memory: its JSON, and the bytes that buffer 0 stands for."""

    json: dict[str, Any]
    binary: bytes

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes: joints, meshes and groups alike."""
        return self.json.get("nodes", [])

    def changed(self) -> Gltf:
        """A copy whose nodes can be changed; all else is shared."""
        return Gltf({**self.json, "nodes": copy.deepcopy(self.nodes)}, self.binary)


def read_gltf(path: Path) -> Gltf:
    """The file, in one piece: what a .gltf keeps in files beside it is taken in. Raises
    CollectError.
    """
    if path.stat().st_size > LARGEST:
        raise CollectError(f"{path.name} is larger than 2 GB; lorakit does not open such models.")
    data = path.read_bytes()
    try:
        model = _from_glb(data) if data[:4] == MAGIC else _from_gltf(data, path.parent)
    except (ValueError, KeyError, IndexError, TypeError, struct.error, RecursionError) as error:
        raise CollectError(
            f"{path.name} is not a whole glTF model ({_short(error)}). Download or export it again."
        ) from error
    return _checked(model, path)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__


def _checked(model: Gltf, path: Path) -> Gltf:
    """Raises CollectError for what is no glTF 2.0 with a mesh."""
    version = str(model.json.get("asset", {}).get("version", "1"))
    if not version.startswith("2"):
        raise CollectError(
            f"{path.name} is glTF {version}, not 2.0: open it in Blender and export it as .glb."
        )
    if not model.json.get("meshes"):
        raise CollectError(f"There is no mesh in {path.name}: nothing would be seen.")
    return model


def _from_glb(data: bytes) -> Gltf:
    length = struct.unpack_from("<I", data, 8)[0]
    if length > len(data):
        raise ValueError(f"{len(data):,} of {length:,} bytes are there")
    document, binary, place = None, b"", 12
    while place + 8 <= length:
        size, kind = struct.unpack_from("<II", data, place)
        chunk = data[place + 8 : place + 8 + size]
        if kind == JSON_CHUNK:
            document = json.loads(chunk)
        elif kind == BINARY_CHUNK:
            binary = chunk
        place += 8 + size
    if not isinstance(document, dict):
        raise ValueError("it has no description of its content")
    return Gltf(document, binary)


def _from_gltf(data: bytes, folder: Path) -> Gltf:
    """Buffers and pictures in files or data: links become parts of one block."""
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("it has no description of its content")
    block, starts = bytearray(), []
    for buffer in document.get("buffers", []):
        starts.append(_append(block, _content(buffer["uri"], folder)))
    for view in document.get("bufferViews", []):
        view["byteOffset"] = view.get("byteOffset", 0) + starts[view["buffer"]]
        view["buffer"] = 0
    for image in document.get("images", []):
        if uri := image.pop("uri", None):
            content = _content(uri, folder)
            views = document.setdefault("bufferViews", [])
            start = _append(block, content)
            views.append({"buffer": 0, "byteOffset": start, "byteLength": len(content)})
            image["bufferView"] = len(views) - 1
            image["mimeType"] = "image/png" if content[:4] == b"\x89PNG" else "image/jpeg"
    document["buffers"] = [{"byteLength": len(block)}] if block else []
    return Gltf(document, bytes(block))


def _append(block: bytearray, content: bytes) -> int:
    """Where `content` begins in the block; pieces begin at multiples of four."""
    block.extend(bytes(-len(block) % 4))
    start = len(block)
    block.extend(content)
    return start


def _content(uri: str, folder: Path) -> bytes:
    """What a link of a .gltf stands for; only files below its own folder are read."""
    if uri.startswith("data:"):
        try:
            return base64.b64decode(uri.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise ValueError("a part of it is damaged") from error
    path = (folder / unquote(uri)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"it points to {uri}, which lies outside its folder")
    if not path.is_file():
        raise ValueError(f"{uri} is missing; put it beside the model, or give a zip of both")
    return path.read_bytes()


def write_glb(model: Gltf, path: Path) -> Path:
    """Writes the model as one .glb."""
    document = dict(model.json)
    if model.binary:
        document["buffers"] = [{"byteLength": len(model.binary)}]
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    chunks = [(JSON_CHUNK, text + b" " * (-len(text) % 4))]
    if model.binary:
        chunks.append((BINARY_CHUNK, model.binary + bytes(-len(model.binary) % 4)))
    length = 12 + sum(8 + len(chunk) for _, chunk in chunks)
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<II", 2, length))
        for kind, chunk in chunks:
            file.write(struct.pack("<II", len(chunk), kind) + chunk)
    return path


def numbers(model: Gltf, index: int) -> np.ndarray:
    """The numbers of an accessor as float array [count, width], whole numbers scaled to -1..1 where
    the file says so. Raises CollectError where the file ends before them.
    """
    accessor = model.json["accessors"][index]
    kind = np.dtype(COMPONENTS[accessor["componentType"]])
    width, count = WIDTHS[accessor["type"]], accessor["count"]
    if "bufferView" not in accessor:  # all zero, as the specification says
        return np.zeros((count, width))
    view = model.json["bufferViews"][accessor["bufferView"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", width * kind.itemsize)
    try:
        raw: np.ndarray = np.ndarray(
            (count, width), kind, model.binary, start, (stride, kind.itemsize)
        )
    except (TypeError, ValueError) as error:
        raise CollectError(
            "The model's file ends before its numbers do. Download or export it again."
        ) from error
    scale = np.iinfo(kind).max if accessor.get("normalized") and kind.kind in "iu" else 1
    return raw.astype(np.float64) / scale
