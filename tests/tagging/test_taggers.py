"""What the network is given and how its answer is read, with a tiny ONNX whose output is a known
function of its input.

Its columns are the means of the three channels, the three channels of the upper left corner and
those of the middle, each divided by 255: so a picture's colours come back as scores, and every step
before the network shows in them.
"""

import csv
import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from lorakit.errors import DatasetError, SettingsError
from lorakit.tagging import taggers
from lorakit.tagging.taggers import Tagger

SIDE = 8
RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
# (name, category) of each column, in an order that no WD tagger has: kinds are to be read, not
# guessed by position.
COLUMNS = [
    ("mean_first", 0),
    ("mean_second", 0),
    ("sensitive", 9),
    ("corner_first", 0),
    ("some_girl_(series)", 4),
    ("corner_third", 0),
    ("middle_first", 0),
    ("^_^", 0),
    ("middle_third", 0),
]


def known_function(sigmoid: bool = True, layout: str = "NHWC") -> onnx.ModelProto:
    """The network described above; without `sigmoid` it gives what a sigmoid would turn into those
    columns.
    """
    shape = ["batch", SIDE, SIDE, 3] if layout == "NHWC" else ["batch", 3, SIDE, SIDE]
    numbers = {"255": np.array(255, np.float32), "axes": np.array([1, 2]), "hw": np.array([1, 2])}
    for name, place in (("zero", 0), ("half", SIDE // 2)):
        numbers[name], numbers[f"{name}+1"] = (
            np.array([place, place]),
            np.array([place + 1, place + 1]),
        )
    nodes = [
        helper.make_node(
            "Transpose",
            ["input"],
            ["nhwc"],
            perm=[0, 1, 2, 3] if layout == "NHWC" else [0, 2, 3, 1],
        )
    ]
    nodes += [
        helper.make_node("Div", ["nhwc", "255"], ["x"]),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=1),
        helper.make_node("Slice", ["x", "zero", "zero+1", "hw"], ["corner"]),
        helper.make_node("Slice", ["x", "half", "half+1", "hw"], ["middle"]),
        helper.make_node("Concat", ["mean", "corner", "middle"], ["all"], axis=3),
        helper.make_node("Flatten", ["all"], ["flat"]),
    ]
    if sigmoid:
        nodes.append(helper.make_node("Identity", ["flat"], ["output"]))
    else:  # logit(p) = log(p / (1 - p)), kept off 0 and 1
        numbers |= {
            "one": np.array(1, np.float32),
            "low": np.array(1e-3, np.float32),
            "high": np.array(0.999, np.float32),
        }
        nodes += [
            helper.make_node("Clip", ["flat", "low", "high"], ["p"]),
            helper.make_node("Sub", ["one", "p"], ["q"]),
            helper.make_node("Div", ["p", "q"], ["odds"]),
            helper.make_node("Log", ["odds"], ["output"]),
        ]
    graph = helper.make_graph(
        nodes,
        "known function",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 9])],
        [numpy_helper.from_array(value, name) for name, value in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def make_folder(folder, columns=COLUMNS, **network):
    """A tagger's folder with the known function in it."""
    folder.mkdir(exist_ok=True)
    onnx.save(known_function(**network), str(folder / "model.onnx"))
    with (folder / "selected_tags.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([i, name, category, 1] for i, (name, category) in enumerate(columns))
    return folder


@pytest.fixture
def tagger(tmp_path):
    return taggers.load(str(make_folder(tmp_path / "known")))


def flat(color, size=(SIDE, SIDE), mode="RGB"):
    return Image.new(mode, size, color)


def test_colours_reach_the_network_as_blue_green_red_from_0_to_255(tagger):
    red, green, blue = tagger.raw([flat(RED), flat(GREEN), flat(BLUE)]).__next__()
    assert red[3:6].tolist() == [0, 0, 1], "red is the last of three channels, and 255 of 255"
    assert green[3:6].tolist() == [0, 1, 0]
    assert blue[3:6].tolist() == [1, 0, 0]


def test_a_tall_picture_is_padded_with_white_not_stretched(tagger):
    (found,) = tagger.scores([flat(BLACK, (4, 8))])
    assert found["corner first"] == found["corner third"] == 1, "the corner is padding"
    assert "middle first" not in found, "the middle is the black picture, whose score 0 is not kept"
    assert found["mean first"] == pytest.approx(0.5)


def test_transparent_pixels_are_white_whatever_colour_they_hide(tagger):
    sheer = flat((255, 0, 0, 0), mode="RGBA")
    (found,) = tagger.scores([sheer])
    assert found["mean first"] == found["corner first"] == found["corner third"] == 1


def test_names_come_tidied_ratings_do_not_come_and_characters_are_known(tagger):
    (found,) = tagger.scores([flat((255, 255, 255))])
    assert "sensitive" not in found
    assert set(found) == {
        "mean first",
        "mean second",
        "corner first",
        "some girl (series)",
        "corner third",
    } | {
        "middle first",
        "^_^",
        "middle third",
    }
    assert tagger.characters == {"some girl (series)"}


def test_the_best_score_comes_first_and_what_nobody_asks_for_is_left_out(tagger):
    (found,) = tagger.scores([flat((128, 200, 5))])
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert min(found.values()) > 0.4, "5 of 255 is under the floor"


def test_batches_change_nothing_and_keep_the_order(tagger):
    pictures = [flat((i * 20, 255 - i * 20, 100)) for i in range(11)]
    alone = [tagger.scores([picture])[0] for picture in pictures]
    seen = []
    together = tagger.scores(
        pictures, lambda what, done, total: seen.append((done, total)), batch=4
    )
    assert [pytest.approx(one) for one in alone] == together
    assert seen == [(0, 11), (4, 11), (8, 11), (11, 11)]
    assert tagger.scores([]) == []


def test_files_are_read_as_pictures_are(tagger, tmp_path):
    path = tmp_path / "a.png"
    flat((255, 0, 0, 0), mode="RGBA").save(path)
    assert tagger.scores([path]) == tagger.scores([Image.open(path)])


def test_a_broken_file_is_named(tagger, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    flat(RED).save(good)
    bad.write_bytes(good.read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"bad\.png cannot be read as a picture"):
        tagger.scores([good] * 9 + [bad])


@pytest.mark.parametrize("size", [(37, 21), (5, 30), (8, 8), (3, 3), (300, 200)])
def test_pictures_are_prepared_as_the_models_author_does(size):
    """The reference, step by step: white square, centred, Pillow's bicubic, BGR, float32."""
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture, longest = Image.fromarray(pixels), max(size)
    square = Image.new("RGB", (longest, longest), (255, 255, 255))
    square.paste(picture, ((longest - size[0]) // 2, (longest - size[1]) // 2))
    expected = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float32)[
        :, :, ::-1
    ]
    got = taggers.prepare(picture, Tagger("any"), SIDE)
    assert got.dtype == np.float32 and got.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(got, expected)


def test_other_families_get_their_own_layout_and_scale():
    row = Tagger("other", layout="NCHW", channels="RGB", scale=1 / 127.5, shift=-1)
    got = taggers.prepare(flat((255, 0, 51)), row, SIDE)
    assert got.shape == (3, SIDE, SIDE)
    assert got[:, 0, 0] == pytest.approx([1, -1, -0.6], abs=1e-6)


def test_a_network_that_gives_logits_is_squashed(tmp_path):
    folder = make_folder(tmp_path / "logits", sigmoid=False, layout="NCHW")
    row = Tagger("logits", layout="NCHW", sigmoid=True)
    tagger = taggers.LoadedTagger(row, folder / "model.onnx", folder / "selected_tags.csv")
    (found,) = tagger.scores([flat((51, 102, 204))])
    assert found["mean first"] == pytest.approx(204 / 255, abs=1e-4)
    assert found["corner third"] == pytest.approx(51 / 255, abs=1e-4)


def test_thresholds_are_one_for_tags_and_one_for_characters():
    scores = {"smile": 0.4, "sky": 0.3, "miku": 0.8, "rin": 0.9}
    over = taggers.tags_over(scores, 0.35, 0.85, frozenset({"miku", "rin"}))
    assert over == {"smile": 0.4, "rin": 0.9}
    assert taggers.tags_over({"smile": 0.35}, 0.35, 0.85, frozenset()) == {"smile": 0.35}, (
        "the threshold itself counts"
    )


# --- finding a tagger -----------------------------------------------------------------------------


def test_every_row_of_the_registry_is_usable():
    assert len(set(taggers.names())) == len(taggers.TAGGERS)
    assert all(0 < row.general < 1 and 0 < row.character < 1 for row in taggers.TAGGERS)
    thresholds = {row.name: row.general for row in taggers.TAGGERS}
    assert thresholds["wd-eva02-large-tagger-v3"] == 0.5296, (
        "eva02 needs twice the others' threshold"
    )
    assert thresholds["wd-vit-tagger-v3"] == 0.2614


def test_a_folder_named_like_a_known_tagger_gets_its_threshold(tmp_path):
    assert taggers.load(str(make_folder(tmp_path / "wd-vit-tagger-v3"))).general == 0.2614
    assert taggers.load(str(make_folder(tmp_path / "mine"))).general == 0.35


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(
        SettingsError, match="no tagger 'wd-vit-taggr-v3'; did you mean 'wd-vit-tagger-v3'?"
    ):
        taggers.load("wd-vit-taggr-v3")
    with pytest.raises(
        SettingsError, match="A folder with model.onnx and selected_tags.csv will do too"
    ):
        taggers.load("xyz")


def test_a_folder_that_lacks_a_file_says_which(tmp_path):
    (make_folder(tmp_path / "half") / "selected_tags.csv").unlink()
    with pytest.raises(SettingsError, match=r"half lacks selected_tags\.csv"):
        taggers.load(str(tmp_path / "half"))


def test_a_failed_download_says_what_to_do(monkeypatch):
    def no_network(*arguments, **options):
        raise OSError("Network is unreachable\nand a long trace")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_network)
    with pytest.raises(SettingsError) as caught:
        taggers.load("wd-vit-tagger-v3")
    message = str(caught.value)
    assert (
        "wd-vit-tagger-v3 could not be downloaded from huggingface.co (Network is unreachable)"
        in message
    )
    assert "it goes on where it stopped" in message and "or to demo" in message
    assert "long trace" not in message


def test_a_download_asks_for_the_pinned_revision(monkeypatch, tmp_path):
    folder, asked = make_folder(tmp_path / "cache"), []

    def download(repo, file, revision):
        asked.append((repo, file, revision))
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    loaded = taggers.load("wd-vit-tagger-v3")
    pinned = "7f6b584d0bd3f55c4531f14ba3d4761b2bccdc0f"
    repo = "SmilingWolf/wd-vit-tagger-v3"
    assert asked == [(repo, "model.onnx", pinned), (repo, "selected_tags.csv", pinned)]
    assert loaded.name == "wd-vit-tagger-v3" and loaded.scores([flat(RED)])


def test_files_of_different_taggers_do_not_go_together(tmp_path):
    tagger = taggers.load(str(make_folder(tmp_path / "mixed", COLUMNS[:-1])))
    with pytest.raises(
        SettingsError, match=r"gives 9 scores, but selected_tags\.csv beside it has 8 rows"
    ):
        tagger.scores([flat(RED)])


def test_a_damaged_network_is_named(tmp_path):
    folder = make_folder(tmp_path / "damaged")
    (folder / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(SettingsError, match=r"model\.onnx cannot be read as a tagger"):
        taggers.load(str(folder)).scores([flat(RED)])


@pytest.mark.parametrize("text", ["name\nsmile\n", "name,category\nsmile,general\n", ""])
def test_a_list_of_tags_without_the_right_columns_is_named(tmp_path, text):
    folder = make_folder(tmp_path / "labels")
    (folder / "selected_tags.csv").write_text(text)
    with pytest.raises(
        SettingsError, match=r"selected_tags\.csv is not a list of tags with the columns"
    ):
        taggers.load(str(folder))


def test_other_weights_have_another_identity(tmp_path):
    one = taggers.load(str(make_folder(tmp_path / "one")))
    same = taggers.load(str(make_folder(tmp_path / "one")))
    assert one.identity == same.identity
    other = taggers.load(str(make_folder(tmp_path / "one", sigmoid=False)))
    assert other.identity != one.identity


def test_on_a_gpu_machine_tagging_on_the_cpu_is_said_once(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(taggers, "nvidia_gpu", lambda: True)
    taggers._say_slow.cache_clear()
    with caplog.at_level(logging.WARNING):
        for name in ("one", "two"):
            taggers.load(str(make_folder(tmp_path / name))).scores([flat(RED)])
    assert [record.message.split(".")[0] for record in caplog.records] == [
        "CUDA provider missing, tagging on CPU, about 20x slower"
    ]


def test_without_a_gpu_nothing_is_said(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(taggers, "nvidia_gpu", lambda: False)
    taggers._say_slow.cache_clear()
    taggers.load(str(make_folder(tmp_path / "one"))).scores([flat(RED)])
    assert caplog.records == []
