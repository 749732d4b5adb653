from __future__ import annotations

import pytest

from mobile_matting_export.formats.ncnn.lower import keep_box_filters_exact
from mobile_matting_export.formats.ncnn.param import FEATURE_MASK, ParamSyntaxError, parse

# as pnnx 20261020 writes it, for a network with a box filter variance E[x^2] - E[x]^2
VARIANCE = """\
7767517
10 11
Input                    in0                      0 1 in0
Convolution              conv_2                   1 1 in0 1 0=4 1=3 11=3 12=1 13=1 14=1 2=1 3=1 4=1 5=1 6=108
Split                    splitncnn_0              1 2 1 2 3
UnaryOp                  pow_0                    1 1 2 4 0=4
Pooling                  avgpool2d_0              1 1 4 5 0=1 1=3 11=3 12=1 13=1 2=1 3=1 5=1 6=1
Pooling                  avgpool2d_1              1 1 3 6 0=1 1=3 11=3 12=1 13=1 2=1 3=1 5=1 6=1
UnaryOp                  pow_1                    1 1 6 7 0=4
BinaryOp                 sub_2                    2 1 5 7 8 0=1
Pooling                  gap_0                    1 1 8 9 0=1 4=1
Crop                     slice_0                  1 1 9 out0 -23310=1,1 -23311=1,1 -23309=1,0
"""
HEAD = "7767517\n2 2\nInput in0 0 1 in0\n"


def test_text_comes_back_byte_for_byte() -> None:
    assert parse(VARIANCE).to_text() == VARIANCE


def test_layers_carry_types_blobs_and_settings() -> None:
    network = parse(VARIANCE)
    assert [layer.name for layer in network.inputs] == ["in0"]
    assert network.outputs == ("out0",)
    convolution, crop = network.layers[1], network.layers[-1]
    assert (convolution.type, convolution.inputs, convolution.outputs) == ("Convolution", ("in0",), ("1",))
    assert (convolution.setting(6), convolution.setting(99, default=7)) == (108, 7)
    assert crop.settings[-23310] == "1,1"


def test_renamed_blobs_change_at_writer_and_readers() -> None:
    network = parse(VARIANCE).with_blob_names({"in0": "image", "1": "features", "out0": "alpha"})
    assert network.layers[0].outputs == ("image",)
    assert network.layers[1].inputs == ("image",)
    assert network.layers[2].inputs == network.layers[1].outputs == ("features",)
    assert network.outputs == ("alpha",)
    assert parse(network.to_text()) == network


def test_renaming_refuses_missing_and_colliding_names() -> None:
    with pytest.raises(ValueError, match="no blob 'in7'"):
        parse(VARIANCE).with_blob_names({"in7": "image"})
    with pytest.raises(ValueError, match="two blobs would be called '5'"):
        parse(VARIANCE).with_blob_names({"in0": "5"})


def test_feature_bits_are_added_to_those_already_off() -> None:
    layer = parse(VARIANCE).layers[1].with_setting(FEATURE_MASK, 64).with_features_off(1)
    assert layer.setting(FEATURE_MASK) == 65


def test_box_filters_and_the_arithmetic_around_them_leave_fp16() -> None:
    masks = {layer.name: layer.setting(FEATURE_MASK) for layer in keep_box_filters_exact(parse(VARIANCE)).layers}
    masked = {name for name, mask in masks.items() if mask}
    assert masked == {"pow_0", "avgpool2d_0", "avgpool2d_1", "pow_1", "sub_2"}
    # bit 2 (no fp16 storage) gives garbage on Vulkan
    assert {masks[name] for name in masked} == {1}


def test_max_pooling_and_adaptive_pooling_keep_fp16() -> None:
    network = parse(
        "7767517\n4 4\nInput x 0 1 x\nPooling max 1 1 x 1 0=0 1=3\n"
        "Pooling adaptive 1 1 1 2 0=1 7=1 8=2 18=2\nClip clamp 1 1 2 3 0=0.0 1=1.0\n"
    )
    assert keep_box_filters_exact(network) == network


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1 must be the magic number"),
        ("7767516\n0 0\n", "line 1 must be the magic number"),
        ("7767517\n", "line 2 must hold"),
        ("7767517\nten layers\n", "line 2 must hold"),
        ("7767517\n2 1\nInput in0 0 1 in0\n", "promises 2 layers and 1 blobs"),
        (HEAD + "ReLU relu one 1 in0 1\n", "line 4 is not"),
        (HEAD + "ReLU relu 1 1 in0\n", "line 4: relu promises 1 inputs and 1 outputs"),
        (HEAD + "ReLU relu 1 1 in0 1 0\n", "line 4: '0' is not a 'key=value' setting"),
        (HEAD + "ReLU relu 1 1 in0 1 slope=0\n", "line 4: 'slope=0' is not"),
        (HEAD + "ReLU relu 1 1 in9 1\n", "reads blob 'in9', which no layer wrote"),
        (HEAD + "ReLU relu 1 1 in0 in0\n", "blob 'in0' is written twice"),
    ],
)
def test_damaged_text_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(ParamSyntaxError, match=reason):
        parse(text)
