"""The embedded tagger's network and its file."""

import numpy as np
import onnxruntime
import torch
from torch import nn

from lorakit.demo.tagger import RATINGS, SIDE, TaggerNet, export_onnx, macro_f1, targets, to_square
from lorakit.demo.world import all_tags


def trained_net() -> TaggerNet:
    """Random weights, and norms that have seen something: folding them must matter."""
    torch.manual_seed(3)
    net = TaggerNet(12)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    nn.init.normal_(net.out.weight, 0, 0.5)
    return net.eval()


def test_the_file_scores_like_the_network_and_takes_bgr_bytes_as_wd_taggers_do(tmp_path):
    net = trained_net()
    export_onnx(net, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    rgb = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    found = session.run(None, {"input": rgb[..., ::-1].astype(np.float32)})[0]
    with torch.no_grad():
        wanted = (
            net(torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1).sigmoid().numpy()
        )
    assert found.shape == (3, len(RATINGS) + 12)
    assert wanted.std() > 0.05  # the scores say something
    assert (
        np.abs(found[:, len(RATINGS) :] - wanted).max() < 3e-3
    )  # weights are kept in half precision


def test_a_picture_is_padded_white_to_a_square():
    square = to_square(np.zeros((160, 96, 3), np.uint8))
    assert square.shape == (SIDE, SIDE, 3)
    assert square[64, 4].tolist() == [255, 255, 255] and square[64, 64].tolist() == [0, 0, 0]


def test_targets_mark_each_shown_tag_in_its_own_column():
    rows = targets([["1girl", "horns"], []])
    assert rows.shape == (2, len(all_tags()))
    assert {all_tags()[i] for i in rows[0].nonzero().flatten()} == {"1girl", "horns"}
    assert rows[1].sum() == 0


def test_macro_f1_is_the_mean_of_each_labels_own_f1():
    target = np.array([[1, 1], [1, 0], [0, 0], [0, 1]])
    scores = np.array([[0.9, 0.1], [0.2, 0.1], [0.7, 0.1], [0.1, 0.8]])
    mean, each = macro_f1(scores, target)
    assert each.tolist() == [0.5, 2 / 3]  # one hit, one missed, one false; then one hit, one missed
    assert mean == (0.5 + 2 / 3) / 2
