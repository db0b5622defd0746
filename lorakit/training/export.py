"""The LoRA file: kohya's SDXL names, fp16, with the metadata that A1111, Forge, ComfyUI and Civitai
read.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from .. import __version__
from ..files import write_safely
from ..settings import to_mapping
from .config import TrainingSettings
from .plan import Plan

Tensors = Mapping[str, torch.Tensor]


def tag_frequencies(captions: Sequence[str]) -> dict[str, int]:
    """How often each tag occurs, lower-cased as kohya writes it, most frequent first."""
    return dict(
        Counter(
            tag.strip().lower() for caption in captions for tag in caption.split(",") if tag.strip()
        ).most_common()
    )


def metadata(
    name: str,
    settings: TrainingSettings,
    plan: Plan,
    captions: Sequence[str],
    activation_tag: str,
    prediction: str,
    epoch: int,
    step: int,
    started: float,
    finished: float,
) -> dict[str, str]:
    """What the file says of itself: kohya's `ss_*` keys, `modelspec.*`, and lorakit's whole
    settings under one key.

    A1111 shows a file to SDXL models only if `ss_base_model_version` begins with `sdxl_`.
    """
    folder = f"{plan.repeats}_{name}"
    sizes = {
        str(i): {"resolution": list(bucket), "count": count * plan.repeats}
        for i, (bucket, count) in enumerate(plan.buckets.items())
    }
    values: dict[str, Any] = {
        "ss_v2": False,
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": settings.rank,
        "ss_network_alpha": settings.alpha,
        "ss_network_args": "{}",
        "ss_output_name": name,
        "ss_sd_model_name": Path(settings.base_model).name,
        "ss_clip_skip": None,
        "ss_resolution": (settings.resolution, settings.resolution),
        "ss_num_train_images": len(plan.placements) * plan.repeats,
        "ss_num_reg_images": 0,
        "ss_num_batches_per_epoch": plan.steps_per_epoch,
        "ss_num_epochs": plan.epochs,
        "ss_epoch": epoch,
        "ss_steps": step,
        "ss_max_train_steps": plan.steps,
        "ss_batch_size_per_device": plan.batch_size,
        "ss_total_batch_size": plan.batch_size,
        "ss_learning_rate": settings.unet_lr,
        "ss_unet_lr": settings.unet_lr,
        "ss_text_encoder_lr": settings.text_encoder_lr,
        "ss_lr_scheduler": settings.schedule,
        "ss_lr_warmup_steps": round(settings.warmup * plan.steps),
        "ss_optimizer": settings.optimizer,
        "ss_min_snr_gamma": settings.min_snr_gamma or None,
        "ss_max_grad_norm": settings.gradient_clip,
        "ss_keep_tokens": settings.keep_tags,
        "ss_shuffle_caption": settings.shuffle_tags,
        "ss_caption_dropout_rate": settings.caption_dropout,
        "ss_caption_tag_dropout_rate": settings.tag_dropout,
        "ss_enable_bucket": True,
        "ss_seed": settings.seed,
        "ss_training_started_at": started,
        "ss_training_finished_at": finished,
        "ss_dataset_dirs": json.dumps(
            {folder: {"n_repeats": plan.repeats, "img_count": len(plan.placements)}}
        ),
        "ss_tag_frequency": json.dumps({folder: tag_frequencies(captions)}),
        "ss_bucket_info": json.dumps({"buckets": sizes}),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.implementation_version": f"lorakit/{__version__}",
        "modelspec.title": name,
        "modelspec.resolution": f"{settings.resolution}x{settings.resolution}",
        "modelspec.date": datetime.datetime.fromtimestamp(finished, datetime.UTC).strftime(
            "%Y-%m-%dT%H:%M:%S"
        ),
        "modelspec.prediction_type": "epsilon" if prediction == "epsilon" else "v",
        "modelspec.trigger_phrase": activation_tag,
        "lorakit.settings": json.dumps(to_mapping(settings)),
    }
    return {key: str(value) for key, value in values.items()}


def hashes(tensors: Tensors, details: Mapping[str, str]) -> dict[str, str]:
    """Kohya's two hashes: sha256 of the tensor data alone (the "addnet hash", Civitai's AutoV3
    begins with it), and the legacy one, eight digits of a fixed window of the file. Both are taken
    over the file with `ss_*` metadata only.
    """
    ours = {key: value for key, value in details.items() if key.startswith("ss_")}
    data = save(dict(tensors), ours)
    body = data[8 + int.from_bytes(data[:8], "little") :]
    window = data[0x100000 : 0x100000 + 0x10000]
    return {
        "sshs_model_hash": hashlib.sha256(body).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(window).hexdigest()[:8],
    }


def save_lora(path: Path, tensors: Tensors, details: Mapping[str, str]) -> Path:
    """Writes the LoRA file whole or not at all. Raises SaveError."""
    data = save(dict(tensors), {**details, **hashes(tensors, details)})
    return write_safely(path, lambda temporary: temporary.write_bytes(data))
