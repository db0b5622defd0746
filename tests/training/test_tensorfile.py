"""Reading safetensors tensor by tensor: the same numbers as safetensors' own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorakit.errors import BaseModelError
from lorakit.training.tensorfile import NotSafetensors, TensorFile, read_header, whole_header

TENSORS = {
    "matrix": torch.arange(12, dtype=torch.float32).reshape(4, 3),
    "half": torch.randn(6, 5).half(),
    "brain": torch.randn(7).bfloat16(),
    "eight": torch.randn(4, 4).to(torch.float8_e4m3fn),
    "number": torch.tensor(3.5),
    "nothing": torch.zeros(0),
    "many": torch.arange(9, dtype=torch.int64).reshape(9, 1),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"who": "me"})
    return tmp_path / "x.safetensors"


def test_every_type_and_shape_is_read_as_it_was_written(file: Path) -> None:
    with TensorFile(file) as opened:
        assert opened.metadata == {"who": "me"} and opened.entries.keys() == TENSORS.keys()
        for name, wanted in load_file(file).items():
            found = opened.read(name)
            assert found.dtype == wanted.dtype and found.shape == wanted.shape
            assert torch.equal(found.float(), wanted.float())


def test_a_converted_tensor_keeps_its_numbers_when_the_next_one_is_read(file: Path) -> None:
    with TensorFile(file) as opened:
        first = opened.read("half", torch.float32)
        opened.read("matrix", torch.float64)
        assert torch.equal(first, TENSORS["half"].float())


def test_a_third_of_the_rows_has_memory_of_its_own(file: Path) -> None:
    with TensorFile(file) as opened:
        thirds = [opened.read("many", third=i) for i in range(3)]
        halves = opened.read("half", torch.float32, third=2)
    assert torch.equal(torch.cat(thirds), TENSORS["many"])
    assert {t.untyped_storage().nbytes() for t in thirds} == {3 * 8}
    assert torch.equal(halves, TENSORS["half"][4:].float())


def test_entries_are_in_the_order_of_the_file(file: Path) -> None:
    with TensorFile(file) as opened:
        starts = [entry.start for entry in opened.entries.values()]
    assert starts == sorted(starts)


def test_a_beginning_has_no_header_yet_and_half_a_file_has_one(file: Path, tmp_path: Path) -> None:
    content, part = file.read_bytes(), tmp_path / "part"
    for count, known in ((0, False), (8, False), (40, False), (len(content) - 1, True)):
        part.write_bytes(content[:count])
        assert (read_header(part) is not None) == known
        with pytest.raises(NotSafetensors, match="it ends before|its header speaks of"):
            whole_header(part)


def header(values: object, data: bytes = b"") -> bytes:
    text = json.dumps(values).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content, said",
    [
        (b"<!DOCTYPE html><html><body>sign in", "it is a web page"),
        (b"\x80\x02}q\x00(X\x08\x00\x00\x00", "it is a pickle"),
        (b"PK\x03\x04archive/data.pkl", "it is a pickle"),
        (b"\0" * 100, "it does not begin like one"),
        (header([1, 2]), "it does not begin like one"),
        (header({"a": {"dtype": "F32", "shape": [1]}}), "its header is damaged"),
        (header({"a": 3}), "its header is damaged"),
        (
            header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
            "the bytes of 'a' do not follow",
        ),
        (
            header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345"),
            "but its header speaks of",
        ),
    ],
)
def test_what_is_no_safetensors_file_says_what_it_looks_like(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BaseModelError) as error:
        TensorFile(tmp_path / "x.safetensors")
    assert "is not a safetensors file" in str(error.value) and said in str(error.value)


def test_a_number_format_of_the_future_is_refused_by_name(tmp_path: Path) -> None:
    entry = {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}
    (tmp_path / "x.safetensors").write_bytes(header({"a": entry}, b"1"))
    with TensorFile(tmp_path / "x.safetensors") as opened:
        with pytest.raises(BaseModelError, match="the tensor 'a' is stored as F4"):
            opened.read("a")


MEASURE = """
import resource, sys, torch
from lorakit.training.tensorfile import TensorFile
from pathlib import Path
torch.zeros(3).half().float()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with TensorFile(Path(sys.argv[1])) as file:
    kept = [file.read(name, torch.float32) for name in file.entries]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_file_converted_on_its_way_in_costs_only_what_it_becomes(tmp_path: Path) -> None:
    count, side = 24, 1024
    tensors = {str(i): torch.full((side, side), i, dtype=torch.float16) for i in range(count)}
    save_file(tensors, tmp_path / "x.safetensors")
    said = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "x.safetensors")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    becomes = count * side * side * 4
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(said.stdout) * unit < becomes * 1.15
