"""Image files are read as they are meant to be seen."""

import io

import numpy as np
import pytest
from PIL import Image

from lorakit import images
from lorakit.errors import DatasetError


def test_transparency_is_laid_over_white_not_over_the_hidden_colour(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "rgba.png")
    Image.new("LA", (2, 2), (0, 0)).save(tmp_path / "la.png")
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    for name in ("rgba.png", "la.png", "p.png"):
        assert images.open_image(tmp_path / name).getpixel((0, 0)) == (255, 255, 255), name
    assert images.open_image(tmp_path / "rgba.png", (0, 9, 0)).getpixel((0, 0)) == (0, 9, 0)


def test_how_opaque_a_picture_is_stands_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6  # to be turned by a quarter, clockwise
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 77))
    image.save(tmp_path / "a.png", exif=exif)
    alpha = images.open_alpha(tmp_path / "a.png")
    assert (alpha.mode, alpha.size) == ("L", (1, 2))
    assert [alpha.getpixel((0, y)) for y in (0, 1)] == [0, 77]
    Image.new("RGB", (2, 1)).save(tmp_path / "b.png")
    assert images.open_alpha(tmp_path / "b.png") is None
    assert [images.has_alpha(tmp_path / f"{name}.png") for name in "ab"] == [True, False]


def test_sixteen_bit_grey_keeps_its_greys(tmp_path):
    grey = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    Image.fromarray(grey).save(tmp_path / "a.png")
    got = np.asarray(images.open_image(tmp_path / "a.png"))[..., 0]
    np.testing.assert_allclose(got, grey / 257, atol=1)


def test_pictures_stand_as_their_exif_says(tmp_path):
    image, exif = Image.new("RGB", (6, 4)), Image.Exif()
    exif[images.ORIENTATION] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert (
        images.open_image(tmp_path / "a.jpg").size
        == images.picture_size(tmp_path / "a.jpg")
        == (4, 6)
    )


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (2, 2), color) for color in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert images.open_image(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # Pillow wonders aloud about what is left of a TIFF
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_damaged_file_is_named_or_read_but_never_a_crash(tmp_path, kind):
    rng, stream = np.random.default_rng(0), io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (40, 30, 3), np.uint8)).save(stream, kind)
    data, path, refused = stream.getvalue(), tmp_path / f"a.{kind.lower()}", 0
    for _ in range(60):
        path.write_bytes(data[: rng.integers(len(data) - 8)])
        try:
            images.open_image(path)
        except DatasetError as error:
            assert f"{path} cannot be read as a picture" in str(error)
            refused += 1
    assert refused > 30
