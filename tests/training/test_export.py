"""The LoRA file's metadata and hashes, as other tools read them, and that a full disk loses
nothing.
"""

import errno
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from lorakit.errors import SaveError
from lorakit.training import export
from lorakit.training.config import TrainingSettings
from lorakit.training.plan import make_plan

TENSORS = {
    "lora_unet_a.lora_down.weight": torch.ones(4, 600, dtype=torch.float16),
    "lora_unet_a.alpha": torch.tensor(2.0, dtype=torch.float16),
}
CAPTIONS = ["astrid, smile", "astrid, Smile, outdoors"]


def details(name: str = "astrid") -> dict[str, str]:
    plan = make_plan([(512, 512), (512, 768)], 512, 64, 4, 2, 10)
    return export.metadata(
        name, TrainingSettings(), plan, CAPTIONS, "astrid", "epsilon", 10, 40, 1000.0, 2000.0
    )


def test_a1111_takes_the_file_for_an_sdxl_lora_and_shows_its_tags() -> None:
    values = details()
    assert values["ss_base_model_version"].startswith("sdxl_")
    assert values["ss_v2"] == "False"
    assert values["ss_network_module"] == "networks.lora"
    assert (values["ss_network_dim"], values["ss_network_alpha"]) == ("8", "4.0")
    assert json.loads(values["ss_tag_frequency"]) == {
        "4_astrid": {"astrid": 2, "smile": 2, "outdoors": 1}
    }
    assert json.loads(values["ss_dataset_dirs"]) == {"4_astrid": {"n_repeats": 4, "img_count": 2}}
    assert json.loads(values["ss_bucket_info"])["buckets"]["0"] == {
        "resolution": [384, 640],
        "count": 4,
    }


def test_modelspec_names_trigger_and_prediction() -> None:
    values = details()
    assert values["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert values["modelspec.trigger_phrase"] == "astrid"
    assert values["modelspec.prediction_type"] == "epsilon"
    assert values["modelspec.date"] == "1970-01-01T00:33:20"


def test_the_whole_settings_can_be_read_back_from_the_file() -> None:
    assert TrainingSettings(**json.loads(details()["lorakit.settings"])) == TrainingSettings()


def test_the_model_hash_is_that_of_the_data_behind_the_header_whatever_the_metadata(
    tmp_path: Path,
) -> None:
    one, other = (
        export.save_lora(tmp_path / f"{n}.safetensors", TENSORS, details(n))
        for n in ("one", "other")
    )
    found = []
    for path in (one, other):
        data = path.read_bytes()
        found.append(hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest())
        with safe_open(path, framework="pt") as file:
            assert file.metadata()["sshs_model_hash"] == found[-1]
            assert len(file.metadata()["sshs_legacy_hash"]) == 8
    assert found[0] == found[1]


def test_a_disk_that_fills_up_while_saving_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export.save_lora(tmp_path / "a.safetensors", TENSORS, details())
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        SaveError, match="Could not write .*a.safetensors: No space left on device. Free some space"
    ):
        export.save_lora(path, TENSORS, details())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
