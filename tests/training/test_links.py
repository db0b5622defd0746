"""What a text in the field base_model means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorakit.errors import BaseModelError
from lorakit.training.links import MENU, VAES, Source, listed, names, parse

HF = "https://huggingface.co"
CIVITAI = "https://civitai.com"
PONY = Source("civitai", "", site=CIVITAI, model=257749)
VERSION = Source("civitai", "", site=CIVITAI, version=290640)
ASKED = (("type", "Model"), ("format", "SafeTensor"), ("size", "pruned"), ("fp", "fp16"))
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id=1aB-c_9"


def hub(repo: str, file: str = "", revision: str = "main") -> Source:
    return Source("hub", "", repo=repo, file=file, revision=revision)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("demo", Source("demo", "")),
        ("owner/name", hub("owner/name")),
        ("owner/na.me-1_0", hub("owner/na.me-1_0")),
        ("owner/name/file.safetensors", hub("owner/name", "file.safetensors")),
        ("owner/name/a folder/file.safetensors", hub("owner/name", "a folder/file.safetensors")),
        (f"{HF}/owner/name", hub("owner/name")),
        (f"{HF}/owner/name/", hub("owner/name")),
        ("huggingface.co/owner/name", hub("owner/name")),
        ("https://hf.co/owner/name", hub("owner/name")),
        (f"{HF}/owner/name/tree/main", hub("owner/name")),
        (f"{HF}/owner/name/tree/v2", hub("owner/name", revision="v2")),
        (f"{HF}/owner/name/discussions", hub("owner/name")),
        (f"{HF}/owner/name/blob/main/x.safetensors", hub("owner/name", "x.safetensors")),
        (
            f"{HF}/owner/name/resolve/main/x.safetensors?download=true",
            hub("owner/name", "x.safetensors"),
        ),
        (
            f"{HF}/owner/name/blob/refs%2Fpr%2F1/a/x%20y.safetensors",
            hub("owner/name", "a/x y.safetensors", "refs/pr/1"),
        ),
        (
            f"{HF}/datasets/owner/name/blob/main/x.safetensors",
            hub("datasets/owner/name", "x.safetensors"),
        ),
        (f"{CIVITAI}/models/257749", PONY),
        (f"{CIVITAI}/models/257749/pony-diffusion-v6-xl", PONY),
        ("civitai.com/models/257749", PONY),
        ("https://www.civitai.com/models/257749", PONY),
        ("http://civitai.com/models/257749", PONY),
        ("https://civitai.red/models/257749", replace(PONY, site="https://civitai.red")),
        (f"{CIVITAI}/models/257749?modelVersionId=290640", replace(PONY, version=290640)),
        (f"{CIVITAI}/models/257749/x?modelVersionId=290640&y=1", replace(PONY, version=290640)),
        (f"{CIVITAI}/model-versions/290640", VERSION),
        (f"{CIVITAI}/api/v1/model-versions/290640", VERSION),
        (f"{CIVITAI}/api/download/models/290640", VERSION),
        (
            f"{CIVITAI}/api/download/models/290640?type=Model&format=SafeTensor&size=pruned&fp=fp16",
            replace(VERSION, options=ASKED),
        ),
        ("https://drive.google.com/file/d/1aB-c_9/view?usp=sharing", Source("link", "", url=DRIVE)),
        ("https://drive.google.com/open?id=1aB-c_9", Source("link", "", url=DRIVE)),
        ("https://drive.google.com/uc?id=1aB-c_9", Source("link", "", url=DRIVE)),
        ("https://x.org/get?n=3", Source("link", "", url="https://x.org/get?n=3")),
        ("/content/drive/MyDrive/a.safetensors", Source("path", "")),
        ("MyDrive/models/sdxl/a.safetensors", Source("path", "")),
        ("~/models/base", Source("path", "")),
        ("./base", Source("path", "")),
        ("models/a.safetensors", Source("path", "")),
        ("a.safetensors", Source("path", "")),
        (r"C:\models\a.safetensors", Source("path", "")),
        ("one/two/three", Source("path", "")),
    ],
)
def test_each_way_of_naming_a_base_model_is_understood(text: str, wanted: Source) -> None:
    assert replace(parse(text), text="") == wanted
    assert replace(parse(f'  "{text}" '), text="") == wanted


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "base_model is empty"),
        ("owner/name/old.ckpt", "is a pickle, which can run code"),
        (f"{HF}/owner/name/blob/main/old.ckpt", "is a pickle, which can run code"),
        (f"{HF}/owner/name/resolve/main/pytorch_model.bin", "is a pickle, which can run code"),
        ("https://x.org/old.pt?x=1", "is a pickle, which can run code"),
        ("/here/old.CKPT", "is a pickle, which can run code"),
        (f"{HF}/owner", "is not the page of a model"),
        (f"{HF}/owner/name/tree/main/unet", "is a folder inside a repository"),
        (f"{HF}/owner/name/resolve/main/../../x.safetensors", "is not the name of a file"),
        ("owner/name/../x.safetensors", "is not the name of a file"),
        (f"{CIVITAI}/images/3", "is not the page of a model"),
        ("https://drive.google.com/drive/folders/1aB", "is not the link of one shared file"),
        (f"{CIVITAI}/api/download/models/1?token=abcdef", "carries a token"),
        ("https://user:secret@x.org/a.safetensors", "carries a token"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(BaseModelError) as error:
        parse(text)
    assert said in str(error.value)
    assert "abcdef" not in str(error.value) and "secret@" not in str(error.value)


def test_the_menu_has_the_base_models_people_train_on_each_with_its_licence() -> None:
    assert names() == [
        "demo",
        "Illustrious XL 0.1",
        "Pony Diffusion V6 XL",
        "NoobAI Eps 1.1",
        "NoobAI V-Pred 1.0",
        "Animagine XL 3.1",
        "Animagine XL 4.0",
        "SDXL 1.0",
    ]
    for row in MENU[1:] + VAES:
        source = parse(row.where)
        assert source.kind == "hub" and source.file.endswith(".safetensors") and row.licence
        named = parse(row.name, MENU + VAES)
        assert (named.repo, named.file) == (source.repo, source.file)


@pytest.mark.parametrize("text", ["NoobAI V-Pred 1.0", "noobai_v-pred_1.0", "NOOBAI VPRED 1.0"])
def test_names_of_the_menu_are_found_however_they_are_spelt(text: str) -> None:
    row = listed(text)
    assert row and row.prediction == "v_prediction" and row.zero_terminal_snr


def test_a_mirror_of_the_hub_is_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    source = parse("https://mirror.example/owner/name/blob/main/x.safetensors")
    assert (source.kind, source.repo, source.file) == ("hub", "owner/name", "x.safetensors")
