"""Latents and masks of pictures: made once, the right way round, and never of something else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from lorakit.dataset import Picture
from lorakit.errors import DatasetError
from lorakit.images import open_image
from lorakit.training import cache
from lorakit.training.base import Base
from lorakit.training.plan import Placement, fit

HALF = {"rtol": 2**-11, "atol": 1e-4}  # float16 has eleven binary digits
PLACE = Placement((100, 120), (80, 96), 3, 20, (64, 64))  # not in the middle: sides can be told


def noise(size: tuple[int, int], seed: int = 0, channels: int = 3) -> Image.Image:
    """A picture of which no two pixels are alike."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    for i in range(3):
        noise((100, 120), i).save(tmp_path / f"{i}.png")
    return [Picture(tmp_path / f"{i}.png") for i in range(3)]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry with each picture that is encoded."""
    made: list[int] = []
    real = cache._encode
    monkeypatch.setattr(
        cache, "_encode", lambda vae, images: made.append(len(images)) or real(vae, images)
    )
    return made


def crop(picture: Picture, placement: Placement = PLACE) -> Image.Image:
    image = open_image(picture.path).resize(placement.resized, Image.Resampling.LANCZOS)
    left, top = placement.left, placement.top
    return image.crop((left, top, left + placement.bucket[0], top + placement.bucket[1]))


@torch.no_grad()
def reference(base: Base, image: Image.Image) -> torch.Tensor:
    """Mean and deviation of a picture's latents, straight from the VAE."""
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    posterior = base.vae.encode(values).latent_dist
    return torch.stack([posterior.mean[0], posterior.std[0]])


# --- latents --------------------------------------------------------------------------------------


def test_latents_are_those_of_the_crop_and_mirrored_ones_of_the_mirrored_crop(
    base: Base, pictures: list[Picture], tmp_path: Path
) -> None:
    places = [PLACE] * 3
    plain, mirrored = cache.latents(pictures, places, base.vae, tmp_path / "x", flips=range(3))
    assert [path.name for path in tmp_path.glob("x*")] == ["x"], "one packed file"
    for i, picture in enumerate(pictures):
        assert plain[i].shape == (2, 4, 8, 8) and plain[i].dtype == torch.float16
        assert torch.allclose(plain[i].float(), reference(base, crop(picture)), **HALF)
        turned = reference(base, ImageOps.mirror(crop(picture)))
        assert torch.allclose(mirrored[i].float(), turned, **HALF)
        assert not torch.allclose(mirrored[i].float(), plain[i].float(), atol=0.05)


def test_mirroring_the_picture_file_and_cropping_it_mirrored_gives_the_same_latents(
    base: Base, pictures: list[Picture], tmp_path: Path
) -> None:
    turned = [Picture(tmp_path / "turned.png")]
    ImageOps.mirror(Image.open(pictures[0].path)).save(turned[0].path)
    [theirs], _ = cache.latents(turned, [PLACE.mirrored], base.vae, tmp_path / "x")
    ours = cache.latents(pictures[:1], [PLACE], base.vae, tmp_path / "x", flips=[0])[1][0]
    assert torch.allclose(theirs[0].float(), ours[0].float(), atol=0.02)


def test_a_second_time_nothing_is_encoded_and_everything_is_the_same(
    base: Base, pictures: list[Picture], tmp_path: Path, encoded: list[int]
) -> None:
    told: list[tuple[str, int, int]] = []
    arguments = (pictures, [PLACE] * 3, base.vae, tmp_path / "x", lambda *line: told.append(line))
    first, _ = cache.latents(*arguments)
    again, _ = cache.latents(*arguments)
    assert encoded == [1, 1, 1]
    assert told[3] == ("Encoding pictures", 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_picture_is_encoded_again_when_anything_changes_that_its_latents_come_from(
    base: Base, pictures: list[Picture], tmp_path: Path, encoded: list[int]
) -> None:
    def run(place: Placement = PLACE, mirrored: bool = False) -> int:
        before = len(encoded)
        flips = range(3) if mirrored else ()
        cache.latents(pictures, [place] * 3, base.vae, tmp_path / "x", flips=flips)
        return len(encoded) - before

    assert (run(), run()) == (3, 0)
    assert (run(mirrored=True), run(mirrored=True), run()) == (3, 0, 0)
    assert run(mirrored=True) == 0
    noise((100, 120), 9).save(pictures[1].path)
    assert (run(), run()) == (1, 0)
    assert run(fit((100, 120), (64, 64)), mirrored=True) == 6
    with torch.no_grad():
        base.vae.encoder.mid_block.resnets[0].conv1.weight[0, 0, 0, 0] += 1e-3
    assert (run(), run()) == (3, 0)


def test_the_same_picture_under_two_names_is_encoded_once(
    base: Base, pictures: list[Picture], tmp_path: Path, encoded: list[int]
) -> None:
    pictures[1].path.write_bytes(pictures[0].path.read_bytes())
    made, _ = cache.latents(pictures, [PLACE] * 3, base.vae, tmp_path / "x")
    assert len(encoded) == 2 and torch.equal(made[0], made[1])


def test_what_a_killed_run_had_encoded_is_kept(
    base: Base, pictures: list[Picture], tmp_path: Path, encoded: list[int]
) -> None:
    def killed(what: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.latents(pictures, [PLACE] * 3, base.vae, tmp_path / "x", killed)
    cache.latents(pictures, [PLACE] * 3, base.vae, tmp_path / "x")
    assert len(encoded) == 3


@pytest.mark.parametrize("broken", [2, 4])  # straight ones come first, then mirrored ones
def test_latents_that_are_not_numbers_are_refused_with_the_pictures_name(
    base: Base,
    pictures: list[Picture],
    tmp_path: Path,
    broken: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = cache._encode
    calls: list[int] = []

    def overflowing(vae: object, images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        made = real(vae, images)
        return made.fill_(float("nan")) if len(calls) == broken else made

    monkeypatch.setattr(cache, "_encode", overflowing)
    with pytest.raises(
        DatasetError, match="1.png gives latents that are not numbers with this VAE"
    ):
        cache.latents(pictures, [PLACE] * 3, base.vae, tmp_path / "x", flips=[1])


def test_what_a_sample_is_drawn_from_is_the_posterior() -> None:
    latent = torch.stack([torch.full((4, 64, 64), 3.0), torch.full((4, 64, 64), 0.5)]).half()
    drawn = cache.sample(latent, 0.13, torch.Generator().manual_seed(1))
    other = cache.sample(latent, 0.13, torch.Generator().manual_seed(2))
    assert drawn.shape == (4, 64, 64) and not torch.equal(drawn, other)
    assert abs(drawn.mean().item() - 0.13 * 3) < 0.003
    assert abs(drawn.std().item() - 0.13 * 0.5) < 0.002


def test_ten_thousand_items_are_loaded_in_order_with_few_ahead() -> None:
    started: list[int] = []
    loaded = cache._ahead(lambda i: started.append(i) or i, range(10_000))
    assert next(loaded) == 0 and len(started) < 50
    assert list(loaded) == list(range(1, 10_000))


# --- masks ----------------------------------------------------------------------------------------


def area_mean(values: np.ndarray, placement: Placement) -> np.ndarray:
    """The mask's mean over each place of the latents, in float64: differences of its integral."""

    def along(rows: np.ndarray, resized: int, start: int, count: int) -> np.ndarray:
        integral = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, 0)])
        edges = (start + 8 * np.arange(count + 1)) * len(rows) / resized
        at = np.stack([np.interp(edges, np.arange(len(integral)), c) for c in integral.T], 1)
        return np.diff(at, axis=0) / np.diff(edges)[:, None]

    (width, height), (columns, rows) = placement.resized, placement.bucket
    tall = along(values.astype(np.float64), height, placement.top, rows // 8)
    return along(tall.T, width, placement.left, columns // 8).T


@pytest.mark.parametrize("size", [(100, 120), (50, 60), (200, 240), (301, 359)])
def test_a_mask_is_cropped_like_its_picture_and_averaged_over_areas(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    picture = Picture(tmp_path / "a.png")
    image = noise(size, 4, channels=1)
    image.save(picture.mask_path)
    [mask] = cache.masks([picture], [PLACE], "files", 0.0)
    assert mask is not None and mask.shape == (1, 8, 8) and mask.dtype == torch.float32
    assert np.allclose(mask[0], area_mean(np.array(image) / 255, PLACE), atol=1e-6)


def test_a_mask_of_whole_cells_is_exact_and_lies_over_what_it_masks(tmp_path: Path) -> None:
    place = Placement((80, 96), (80, 96), 8, 16, (64, 64))
    cells = np.random.default_rng(1).integers(0, 256, (12, 10), np.uint8)
    Image.fromarray(np.kron(cells, np.ones((8, 8), np.uint8))).save(tmp_path / "a.mask.png")
    [mask] = cache.masks([Picture(tmp_path / "a.png")], [place], "files", 0.0)
    assert np.allclose(mask[0], cells[2:10, 1:9] / 255, atol=1e-6)


def test_a_flipped_mask_is_the_mask_of_the_flipped_picture(tmp_path: Path) -> None:
    image = noise((100, 120), 4, channels=1)
    image.save(tmp_path / "a.mask.png")
    ImageOps.mirror(image).save(tmp_path / "b.mask.png")
    pair = [Picture(tmp_path / "a.png"), Picture(tmp_path / "b.png")]
    mask, mirrored = cache.masks(pair, [PLACE, PLACE.mirrored], "files", 0.25)
    assert torch.allclose(mask.flip(-1), mirrored, atol=1e-6)


@pytest.mark.parametrize("unmasked", [0.0, 0.25, 0.9])
def test_what_is_masked_still_counts_as_much_as_is_asked_for(
    tmp_path: Path, unmasked: float
) -> None:
    values = np.zeros((64, 64), np.uint8)
    values[:, 32:], values[:8, :8] = 255, 51
    Image.fromarray(values).save(tmp_path / "a.mask.png")
    place = fit((64, 64), (64, 64))
    [mask] = cache.masks([Picture(tmp_path / "a.png")], [place], "files", unmasked)
    expected = np.full((8, 8), unmasked)
    expected[:, 4:], expected[0, 0] = 1, unmasked + (1 - unmasked) * 0.2
    assert np.allclose(mask[0], expected, atol=1e-6)


def test_alpha_masks_what_is_transparent(tmp_path: Path) -> None:
    alpha = noise((100, 120), 7, channels=1)
    image = noise((100, 120)).convert("RGBA")
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    noise((100, 120)).save(tmp_path / "opaque.png")
    pair = [Picture(tmp_path / "a.png"), Picture(tmp_path / "opaque.png")]
    mask, none = cache.masks(pair, [PLACE] * 2, "alpha", 0.0)
    assert np.allclose(mask[0], area_mean(np.array(alpha) / 255, PLACE), atol=1e-6)
    assert none is None
    assert cache.masks(pair, [PLACE] * 2, "none", 0.0) == [None, None]
    assert cache.masks(pair, [PLACE] * 2, "alpha", 1.0) == [None, None]


def test_a_picture_without_a_mask_file_or_with_a_white_one_counts_whole(tmp_path: Path) -> None:
    Image.new("L", (100, 120), 255).save(tmp_path / "a.mask.png")
    pair = [Picture(tmp_path / "a.png"), Picture(tmp_path / "b.png")]
    assert cache.masks(pair, [PLACE] * 2, "files", 0.0) == [None, None]


def test_what_is_transparent_in_a_mask_does_not_count(tmp_path: Path) -> None:
    image = Image.new("RGBA", (100, 120), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 50, 120))
    image.save(tmp_path / "a.mask.png")
    [mask] = cache.masks([Picture(tmp_path / "a.png")], [PLACE], "files", 0.0)
    assert (mask[0, :, 0].min(), mask[0, :, -1].max()) == (1, 0)


@pytest.mark.parametrize(
    ("size", "color", "message"),
    [
        ((120, 100), 255, r"a.mask.png is 120x100, its picture 100x120: .* another shape"),
        ((100, 120), 0, r"a.mask.png masks all that is trained of its picture"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_named(
    tmp_path: Path, size: tuple[int, int], color: int, message: str
) -> None:
    Image.new("L", size, color).save(tmp_path / "a.mask.png")
    with pytest.raises(DatasetError, match=message):
        cache.masks([Picture(tmp_path / "a.png")], [PLACE], "files", 0.0)


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mask.png").write_bytes(b"\x89PNG")
    with pytest.raises(DatasetError, match="a.mask.png cannot be read as a picture"):
        cache.masks([Picture(tmp_path / "a.png")], [PLACE], "files", 0.0)
