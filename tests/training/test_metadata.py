"""The LoRA file's metadata, as A1111, ComfyUI and model managers read it, and as a run can be
repeated from it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorakit.dataset import Picture
from lorakit.project import Project
from lorakit.training import metadata
from lorakit.training.config import TrainingSettings
from lorakit.training.examples import Example
from lorakit.training.plan import Plan, fit
from lorakit.training.provenance import Moment, Provenance

from .lora_files import random_lora

HOME = Path("/home/astrid")
PROJECT = Project(
    "astrid", HOME / "dataset", HOME / "output", HOME / "removed", HOME / "project.toml"
)
MOMENT = Moment("astrid-000002", 2, 40, 2000.0)
TOML = '# my notes\n[training]\nbase_model = "https://civitai.com/x?type=Model&token=abc123"\n'


BOX = [fit((512, 512), (512, 512)), fit((512, 768), (384, 640)), fit((500, 750), (384, 640))]


def shown(path: str, caption: str, place: int, repeats: int, held: bool = False) -> Example:
    return Example(Picture(PROJECT.dataset / path), caption, BOX[place], repeats, 1, False, held)


EXAMPLES = [
    shown("a.png", "astrid, smile", 0, 4),
    shown("b.png", "astrid, Smile ||| outdoors", 1, 4),
    shown("3_winter/c.png", "astrid, snow", 2, 6),
    shown("reg/d.png", "1girl, night", 0, 1, held=True),
]
PLAN = Plan(tuple(e.placement for e in EXAMPLES), tuple(e.repeats for e in EXAMPLES), 4, 10)


@pytest.fixture
def origin() -> Provenance:
    """A run of four pictures with repeats of their own, one of them for regularisation."""
    return Provenance(
        PROJECT, TrainingSettings(), PLAN, EXAMPLES, "astrid", TOML, "illustrious.safetensors"
    )


def of(origin: Provenance, moment: Moment = MOMENT, **changes: object) -> dict[str, str]:
    settings = replace(origin.settings, **changes)  # type: ignore[arg-type]
    return metadata.metadata(
        replace(origin, settings=settings), moment, random_lora(0, rank=8, alpha=4)
    )


def test_a1111_takes_the_file_for_an_sdxl_lora(origin: Provenance) -> None:
    values = of(origin)
    assert values["ss_base_model_version"] == "sdxl_base_v1-0"
    assert values["ss_v2"] == "False"
    assert values["ss_network_module"] == "networks.lora"
    assert values["ss_output_name"] == "astrid-000002"
    assert values["ss_sd_model_name"] == "illustrious.safetensors"
    assert all(isinstance(value, str) for value in values.values())


GOLDEN = Path(__file__).parents[1] / "golden" / "metadata_keys.txt"
ABSENT = """ss_adaptive_noise_scale ss_caption_dropout_every_n_epochs ss_face_crop_aug_range
    ss_fp8_base ss_fp8_base_unet ss_full_fp16 ss_huber_scale ss_ip_noise_gamma_random_strength
    ss_lowram ss_max_bucket_reso ss_max_token_length ss_max_validation_steps ss_min_bucket_reso
    ss_new_sd_model_hash ss_noise_offset_random_strength ss_num_validation_images
    ss_resize_interpolation ss_sd_scripts_commit_hash ss_session_id ss_training_comment
    ss_validate_every_n_epochs ss_validate_every_n_steps ss_validation_seed ss_validation_split"""


def test_every_key_that_sd_scripts_writes_is_there_but_for_what_lorakit_has_not(
    origin: Provenance,
) -> None:
    theirs = {k for k in GOLDEN.read_text().split() if not k.startswith("sshs_")}
    ours = {key for key in of(origin) if not key.startswith("lorakit.")}
    assert ours - theirs == {
        *("ss_network_args", "modelspec.trigger_phrase", "modelspec.usage_hint"),
    }
    assert theirs - ours == set(ABSENT.split())


def test_tags_are_counted_by_folder_and_regularisation_pictures_are_not(
    origin: Provenance,
) -> None:
    assert json.loads(of(origin)["ss_tag_frequency"]) == {
        "4_astrid": {"astrid": 2, "smile": 2, "outdoors": 1},
        "6_winter": {"astrid": 1, "snow": 1},
    }


def test_folders_have_their_own_repeats(origin: Provenance) -> None:
    values = of(origin)
    assert json.loads(values["ss_dataset_dirs"]) == {
        "4_astrid": {"n_repeats": 4, "img_count": 2},
        "6_winter": {"n_repeats": 6, "img_count": 1},
    }
    assert json.loads(values["ss_reg_dataset_dirs"]) == {"1_reg": {"n_repeats": 1, "img_count": 1}}
    assert (values["ss_num_train_images"], values["ss_num_reg_images"]) == ("14", "1")


def test_buckets_are_counted_with_repeats_and_make_the_batches_of_an_epoch(
    origin: Provenance,
) -> None:
    values = of(origin)
    info = json.loads(values["ss_bucket_info"])
    assert info["buckets"] == {
        "0": {"resolution": [384, 640], "count": 10},
        "1": {"resolution": [512, 512], "count": 5},
    }
    assert info["mean_img_ar_error"] == round(2 * (512 / 768 - 0.6) / 4, 8)
    assert values["ss_num_batches_per_epoch"] == "5"  # ceil(10 / 4) + ceil(5 / 4)


def test_ranks_are_those_of_the_file_even_where_the_settings_say_otherwise(
    origin: Provenance,
) -> None:
    values = of(origin, rank=128, rank_dropout=0.1, lora_plus=16, dropout=0.2)
    assert (values["ss_network_dim"], values["ss_network_alpha"]) == ("8", "4.0")
    assert json.loads(values["ss_network_args"]) == {
        "conv_dim": "8",
        "conv_alpha": "4.0",
        "rank_dropout": "0.1",
        "loraplus_lr_ratio": "16",
    }
    assert values["ss_network_dropout"] == "0.2"


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({}, "ss_text_encoder_lr", "6e-05"),
        ({"text_encoder_2_lr": 1e-5}, "ss_text_encoder_lr", "[6e-05, 1e-05]"),
        ({"text_encoder_lr": 0.0, "text_encoder_2_lr": 0.0}, "ss_text_encoder_lr", "0.0"),
        ({"schedule": "restarts"}, "ss_lr_scheduler", "cosine_with_restarts"),
        ({"schedule": "rex"}, "ss_lr_scheduler", "rex"),
        ({"warmup": 0.1}, "ss_lr_warmup_steps", "5"),
        (
            {"optimizer": "Prodigy", "optimizer_arguments": "d_coef=2 betas=0.9,0.99"},
            "ss_optimizer",
            "Prodigy(d_coef=2,betas=0.9,0.99)",
        ),
        ({"accumulation": 3}, "ss_total_batch_size", "12"),
        ({"min_snr_gamma": 0.0}, "ss_min_snr_gamma", "None"),
        ({"debiased": True}, "ss_min_snr_gamma", "None"),
        ({"debiased": True}, "ss_debiased_estimation", "True"),
        ({"noise_offset": 0.05}, "ss_noise_offset", "0.05"),
        ({"multires_iterations": 6}, "ss_multires_noise_discount", "0.3"),
        ({}, "ss_multires_noise_discount", "None"),
        ({"input_noise": 0.1}, "ss_ip_noise_gamma", "0.1"),
        ({"loss": "huber"}, "ss_loss_type", "huber"),
        ({"max_norm": 1.0}, "ss_scale_weight_norms", "1.0"),
        ({"flip": True}, "ss_flip_aug", "True"),
        ({"upscale": False}, "ss_bucket_no_upscale", "True"),
        ({"sentences": True}, "ss_shuffle_caption", "False"),
        ({"regularisation_weight": 0.5}, "ss_prior_loss_weight", "0.5"),
        ({"timestep_low": 100}, "modelspec.timestep_range", "100,1000"),
    ],
)
def test_a_setting_is_written_as_kohya_writes_it(
    origin: Provenance, changes: dict[str, object], key: str, value: str
) -> None:
    assert of(origin, **changes)[key] == value


def test_the_optimiser_that_really_ran_is_named(origin: Provenance) -> None:
    values = of(replace(origin, optimizer="AdamW"), optimizer="AdamW8bit")
    assert values["ss_optimizer"] == "AdamW"


def test_modelspec_names_trigger_prediction_and_date(origin: Provenance) -> None:
    values = of(origin)
    assert values["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert values["modelspec.title"] == "astrid-000002"
    assert values["modelspec.trigger_phrase"] == "astrid"
    assert values["modelspec.prediction_type"] == "epsilon"
    assert values["modelspec.resolution"] == "1024x1024"
    assert values["modelspec.date"] == "1970-01-01T00:33:20"
    assert "modelspec.timestep_range" not in values
    assert "modelspec.trigger_phrase" not in of(replace(origin, activation_tag=""))


def test_a_v_prediction_base_with_zero_terminal_snr_is_named_as_one(origin: Provenance) -> None:
    values = of(replace(origin, prediction="v_prediction", zero_terminal_snr=True))
    assert values["modelspec.prediction_type"] == "v"
    assert values["ss_zero_terminal_snr"] == "True"
    assert of(origin)["ss_zero_terminal_snr"] == "False"


def test_the_whole_settings_and_the_whole_project_file_can_be_read_back(
    origin: Provenance,
) -> None:
    values = of(origin, epochs=7)
    assert TrainingSettings(**json.loads(values["lorakit.settings"])).epochs == 7
    assert values["lorakit.project"].startswith("# my notes\n[training]\nbase_model = ")


def test_tokens_and_passwords_in_links_stay_at_home(origin: Provenance) -> None:
    values = of(origin, base_model="https://me:geheim@example.com/a.safetensors?token=abc123&x=1")
    text = json.dumps(values)
    assert "abc123" not in text and "geheim" not in text
    assert "https://civitai.com/x?type=Model&token=..." in values["lorakit.project"]
    assert json.loads(values["lorakit.settings"])["base_model"] == (
        "https://example.com/a.safetensors?token=...&x=1"
    )


def test_two_runs_that_did_the_same_differ_only_in_their_times(origin: Provenance) -> None:
    first = of(origin)
    second = of(replace(origin, started=5.0), replace(MOMENT, finished=9000.0))
    assert {key for key in first if first[key] != second[key]} == {
        "ss_training_started_at",
        "ss_training_finished_at",
        "modelspec.date",
    }


def test_likeness_is_kept_where_it_was_measured(origin: Provenance) -> None:
    assert "lorakit.likeness" not in of(origin)
    assert of(origin, replace(MOMENT, likeness=0.78125))["lorakit.likeness"] == "0.7812"
