"""Which file is taken of those a repository or a model's page offers."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.errors import BaseModelError
from lorakit.training.offers import choose, choose_civitai, newest_version

GB = 10**9
DIFFUSERS = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer_2/vocab.json",
    *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder", "text_encoder_2")),
    *(f"{part}/model.safetensors" for part in ("text_encoder", "text_encoder_2")),
    *(f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")),
]
HALF = [
    *(f"{part}/model.fp16.safetensors" for part in ("text_encoder", "text_encoder_2")),
    *(f"{part}/diffusion_pytorch_model.fp16.safetensors" for part in ("unet", "vae")),
]


def sizes(names: list[str], size: int = 7 * GB) -> dict[str, dict[str, Any]]:
    return {name: {"size": size} for name in names}


def test_a_diffusers_folder_is_taken_with_its_index_last_and_nothing_needless() -> None:
    needless = ["unet/openvino_model.bin", "text_encoder/flax_model.msgpack", "README.md"]
    chosen = choose(sizes([*DIFFUSERS, *needless, "one_file.safetensors"]), "o/n")
    assert sorted(chosen) == sorted(DIFFUSERS)
    assert chosen[-1] == "model_index.json"


def test_half_precision_is_taken_where_there_is_a_choice_but_not_of_the_vae() -> None:
    chosen = set(choose(sizes(DIFFUSERS + HALF), "o/n"))
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in chosen
    assert "unet/diffusion_pytorch_model.safetensors" not in chosen
    assert "vae/diffusion_pytorch_model.safetensors" in chosen
    assert "vae/diffusion_pytorch_model.fp16.safetensors" not in chosen


def test_the_pieces_of_a_split_part_are_all_taken() -> None:
    split = [f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    others = [name for name in DIFFUSERS if name != "unet/diffusion_pytorch_model.safetensors"]
    assert set(split) <= set(choose(sizes(others + split), "o/n"))


def test_the_one_large_file_is_the_checkpoint() -> None:
    files = sizes(["base.safetensors"]) | sizes(["style_lora.safetensors"], 200_000_000)
    assert choose(files, "o/n") == ["base.safetensors"]


@pytest.mark.parametrize(
    "names, said",
    [
        (["a.safetensors", "b.safetensors"], "several checkpoints: a.safetensors, b.safetensors"),
        (["a.safetensors", "b.safetensors"], "Name one: o/n/a.safetensors"),
        (["model.ckpt", "README.md"], "holds pickles only"),
        (["README.md"], "holds no SDXL checkpoint"),
    ],
)
def test_a_repository_without_one_answer_says_what_is_in_it(names: list[str], said: str) -> None:
    with pytest.raises(BaseModelError) as error:
        choose(sizes(names), "o/n")
    assert said in str(error.value)


def test_a_vae_is_found_alone_and_inside_a_whole_model() -> None:
    alone = ["config.json", "diffusion_pytorch_model.safetensors"]
    assert choose(sizes([*alone, "sdxl_vae.safetensors"]), "o/n", "vae") == alone
    assert choose(sizes(DIFFUSERS), "o/n", "vae") == [
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert choose(sizes(["my_vae.safetensors"], 3 * 10**8), "o/n", "vae") == ["my_vae.safetensors"]


def offer(name: str, **about: Any) -> dict[str, Any]:
    fp = about.pop("fp", "fp16")
    return {"name": name, "type": "Model", "metadata": {"format": "SafeTensor", "fp": fp}, **about}


PICKLE = {"name": "a.ckpt", "type": "Model", "metadata": {"format": "PickleTensor"}}


@pytest.mark.parametrize(
    "files, options, wanted",
    [
        ([offer("a.safetensors")], {}, "a.safetensors"),
        ([offer("a.safetensors"), offer("b.safetensors", primary=True)], {}, "b.safetensors"),
        ([offer("v.safetensors", type="VAE"), offer("a.safetensors")], {}, "a.safetensors"),
        ([PICKLE, offer("a.safetensors")], {}, "a.safetensors"),
        (
            [offer("a.safetensors", primary=True), offer("b.safetensors", fp="fp32")],
            {"fp": "fp32", "format": "SafeTensor"},
            "b.safetensors",
        ),
        ([offer("a.safetensors", fp=None)], {"fp": "bf16"}, "a.safetensors"),
    ],
)
def test_civitais_main_safetensors_file_is_taken_or_the_one_the_link_asks_for(
    files: list[Any], options: dict[str, str], wanted: str
) -> None:
    assert choose_civitai({"files": files}, options, "it")["name"] == wanted


@pytest.mark.parametrize(
    "about, said",
    [
        ({"files": [PICKLE]}, "it is a pickle, which can run code"),
        ({"files": []}, "it has no file that can be downloaded."),
        ({"files": [offer("a.safetensors", fp="bf16")]}, "no file that can be downloaded with fp"),
        ({"files": [offer("a.safetensors")], "model": {"type": "LORA"}}, "it is a LORA, not a"),
    ],
)
def test_what_civitai_has_of_no_use_is_refused(about: dict[str, Any], said: str) -> None:
    with pytest.raises(BaseModelError) as error:
        choose_civitai(about, {"fp": "fp16"}, "it")
    assert said in str(error.value)


def test_the_newest_version_is_the_first_that_everybody_can_have() -> None:
    versions = [{"id": 3, "availability": "EarlyAccess"}, {"id": 2}, {"id": 1}]
    assert newest_version({"modelVersions": versions}, "it") == 2
    assert newest_version({"modelVersions": versions[:1]}, "it") == 3
    with pytest.raises(BaseModelError, match="it has no version"):
        newest_version({}, "it")
