"""What a LoRA file says of itself: kohya's `ss_*` keys, `modelspec.*`, and lorakit's own record.

A1111, Forge, ComfyUI, Civitai and model managers read the first two; the whole `project.toml` and
every setting as it was used are under `lorakit.*`, so that a run can be repeated from its file.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from .. import __version__
from ..project import Project
from ..settings import to_mapping
from .config import TrainingSettings
from .examples import Example
from .factors import Tensors, network_details
from .plan import Plan
from .provenance import Moment, Provenance, redacted

ARCHITECTURE = "stable-diffusion-xl-v1-base/lora"
IMPLEMENTATION = "https://github.com/Stability-AI/generative-models"
SCHEDULES = {"restarts": "cosine_with_restarts"}  # what kohya calls differently


def metadata(origin: Provenance, moment: Moment, tensors: Tensors) -> dict[str, str]:
    """The metadata of the file that holds `tensors` (kohya's names).

    Two runs that did the same differ only in ss_training_started_at, ss_training_finished_at and
    modelspec.date. A1111 shows a file to SDXL models only if `ss_base_model_version` begins with
    `sdxl_`.
    """
    values = {
        **_network(origin.settings, tensors),
        **_run(origin, moment),
        **_optimizer(origin),
        **_objective(origin),
        **_captions(origin.settings),
        **_pictures(origin),
        **_modelspec(origin, moment),
        **_own(origin, moment),
    }
    return {key: _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    """As kohya writes it: JSON for what has parts, Python's own words for the rest."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)


def _network(settings: TrainingSettings, tensors: Tensors) -> dict[str, Any]:
    found = network_details(tensors)
    extra = {
        "rank_dropout": settings.rank_dropout,
        "module_dropout": settings.module_dropout,
        "loraplus_lr_ratio": settings.lora_plus if settings.lora_plus != 1 else 0,
    }
    arguments = found["ss_network_args"] | {k: str(v) for k, v in extra.items() if v}
    return {
        **sdxl_lora(),
        **found,
        "ss_network_args": arguments,
        "ss_network_dropout": settings.dropout or None,
        "ss_scale_weight_norms": settings.max_norm or None,
    }


def sdxl_lora() -> dict[str, str]:
    """What marks any file as a LoRA for SDXL."""
    return {"ss_v2": "False", "ss_base_model_version": "sdxl_base_v1-0"}


def _run(origin: Provenance, moment: Moment) -> dict[str, Any]:
    settings, plan = origin.settings, origin.plan
    return {
        "ss_output_name": moment.name,
        "ss_sd_model_name": origin.base_name,
        "ss_sd_model_hash": origin.base_hash or None,
        "ss_clip_skip": None,
        "ss_seed": settings.seed,
        "ss_num_epochs": plan.epochs,
        "ss_epoch": moment.epoch,
        "ss_steps": moment.step,
        "ss_max_train_steps": plan.steps,
        "ss_batch_size_per_device": plan.batch_size,
        "ss_total_batch_size": plan.batch_size * settings.accumulation,
        "ss_gradient_accumulation_steps": settings.accumulation,
        "ss_gradient_checkpointing": settings.checkpointing != "none",
        "ss_mixed_precision": {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(
            origin.precision, "no"
        ),
        "ss_cache_latents": True,
        "ss_training_started_at": origin.started,
        "ss_training_finished_at": moment.finished,
    }


def _optimizer(origin: Provenance) -> dict[str, Any]:
    settings = origin.settings
    encoders = [settings.text_encoder_lr, settings.text_encoder_2_lr]
    words = settings.optimizer_arguments.split()
    return {
        "ss_optimizer": (origin.optimizer or settings.optimizer)
        + (f"({','.join(words)})" if words else ""),
        "ss_learning_rate": settings.unet_lr,
        "ss_unet_lr": settings.unet_lr,
        "ss_text_encoder_lr": encoders[0] if encoders[0] == encoders[1] else encoders,
        "ss_lr_scheduler": SCHEDULES.get(settings.schedule, settings.schedule),
        "ss_lr_warmup_steps": round(settings.warmup * origin.plan.steps),
        "ss_max_grad_norm": settings.gradient_clip,
    }


def _objective(origin: Provenance) -> dict[str, Any]:
    settings = origin.settings
    pyramid = settings.multires_iterations
    return {
        "ss_min_snr_gamma": None if settings.debiased else settings.min_snr_gamma or None,
        "ss_debiased_estimation": settings.debiased,
        "ss_zero_terminal_snr": origin.zero_terminal_snr,
        "ss_loss_type": settings.loss,
        "ss_huber_schedule": settings.huber_schedule,
        "ss_huber_c": settings.huber_threshold,
        "ss_noise_offset": settings.noise_offset or None,
        "ss_multires_noise_iterations": pyramid or None,
        "ss_multires_noise_discount": settings.multires_discount if pyramid else None,
        "ss_ip_noise_gamma": settings.input_noise or None,
        "ss_prior_loss_weight": settings.regularisation_weight,
    }


def _captions(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "ss_keep_tokens": settings.keep_tags,
        "ss_shuffle_caption": settings.shuffle_tags and not settings.sentences,
        "ss_caption_dropout_rate": settings.caption_dropout,
        "ss_caption_tag_dropout_rate": settings.tag_dropout,
    }


def _pictures(origin: Provenance) -> dict[str, Any]:
    settings, plan = origin.settings, origin.plan
    mine = [example for example in origin.examples if not example.regularisation]
    others = [example for example in origin.examples if example.regularisation]
    return {
        "ss_resolution": (settings.resolution, settings.resolution),
        "ss_enable_bucket": True,
        "ss_bucket_no_upscale": not settings.upscale,
        "ss_bucket_info": _buckets(plan),
        "ss_num_batches_per_epoch": sum(
            math.ceil(count / plan.batch_size) for count in plan.shown.values()
        ),
        "ss_num_train_images": sum(example.repeats for example in mine),
        "ss_num_reg_images": sum(example.repeats for example in others),
        "ss_dataset_dirs": _folders(origin, mine),
        "ss_reg_dataset_dirs": _folders(origin, others),
        "ss_tag_frequency": {
            folder: tag_frequencies(
                [e.caption for e in mine if _folder(origin.project, e) == folder],
                settings.keep_separator,
            )
            for folder in _folders(origin, mine)
        },
        "ss_flip_aug": settings.flip,
        "ss_color_aug": False,
        "ss_random_crop": False,
    }


def _buckets(plan: Plan) -> dict[str, Any]:
    """Kohya's `ss_bucket_info`: how often each size is shown in an epoch, and how far the pictures'
    shapes are from it.
    """
    shapes = [(p.original, p.bucket) for p in plan.placements]
    errors = [abs(w / h - bucket[0] / bucket[1]) for (w, h), bucket in shapes]
    sizes = {
        str(i): {"resolution": list(size), "count": count}
        for i, (size, count) in enumerate(sorted(plan.shown.items()))
    }
    return {"buckets": sizes, "mean_img_ar_error": round(sum(errors) / max(1, len(errors)), 8)}


def _folder(project: Project, example: Example) -> str:
    """The name that kohya's folder of this picture would have: '3_astrid' is shown three times."""
    folder = example.picture.path.parent
    name = project.name if folder == project.dataset else re.sub(r"^\d+_", "", folder.name)
    return f"{example.repeats}_{name}"


def _folders(origin: Provenance, examples: Iterable[Example]) -> dict[str, dict[str, int]]:
    counts = Counter((_folder(origin.project, e), e.repeats) for e in examples)
    return {
        folder: {"n_repeats": repeats, "img_count": count}
        for (folder, repeats), count in counts.items()
    }


def tag_frequencies(captions: Sequence[str], separator: str = "") -> dict[str, int]:
    """How often each tag occurs, lower-cased as kohya writes it, most frequent first.

    `separator` (keep_separator) stands between tags like a comma.
    """
    words = [c.replace(separator, ",") if separator else c for c in captions]
    return dict(
        Counter(
            tag.strip().lower() for caption in words for tag in caption.split(",") if tag.strip()
        ).most_common()
    )


def _modelspec(origin: Provenance, moment: Moment) -> dict[str, Any]:
    settings, tag = origin.settings, origin.activation_tag
    values = {
        **modelspec(moment.name, moment.finished),
        "modelspec.resolution": f"{settings.resolution}x{settings.resolution}",
        "modelspec.prediction_type": "epsilon" if origin.prediction == "epsilon" else "v",
    }
    if tag:
        values["modelspec.trigger_phrase"] = tag
        values["modelspec.usage_hint"] = f"Begin the prompt with: {tag}"
    if (settings.timestep_low, settings.timestep_high) != (0, 1000):
        values["modelspec.timestep_range"] = f"{settings.timestep_low},{settings.timestep_high}"
    return values


def modelspec(title: str, finished: float) -> dict[str, str]:
    """The part of Stability's model metadata that any LoRA file for SDXL has; `finished` counts
    seconds since 1970.
    """
    date = datetime.datetime.fromtimestamp(finished, datetime.UTC)
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": ARCHITECTURE,
        "modelspec.implementation": IMPLEMENTATION,
        "modelspec.implementation_version": f"lorakit/{__version__}",
        "modelspec.title": title,
        "modelspec.date": date.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def _own(origin: Provenance, moment: Moment) -> dict[str, Any]:
    values = {
        "lorakit.settings": redacted(json.dumps(to_mapping(origin.settings), ensure_ascii=False)),
        "lorakit.project": redacted(origin.project_text),
    }
    if moment.likeness is not None:
        values["lorakit.likeness"] = f"{moment.likeness:.4f}"
    return values


def stored(details: Mapping[str, str], key: str) -> dict[str, Any]:
    """What a file's metadata have under a key that holds JSON; empty if it is missing or spoilt, as
    another program may leave it.
    """
    try:
        found = json.loads(details.get(key) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def tag_counts(details: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """How often each tag occurs in each folder (`ss_tag_frequency`)."""
    return {
        folder: {tag: count for tag, count in tags.items() if isinstance(count, int)}
        for folder, tags in stored(details, "ss_tag_frequency").items()
        if isinstance(tags, dict)
    }
