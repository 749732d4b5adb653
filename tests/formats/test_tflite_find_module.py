"""PyTorch module paths from the names that litert-torch and shorten_names write."""

from __future__ import annotations

import pytest

from mobile_matting_export.formats.tflite.find_module import find_module

OURS = "mobile_matting_export.alpha_network.AlphaNetwork/mobile_matting_export.networks.mmnet.MMNet_net"
PEER = "litert_torch._convert.to_channel_last_io.ChannelLastIOWrapper/nets.Pick_wrapped/model.segnet.SegMattingNet_m"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        (f"{OURS}/mobile_matting_export.networks.mmnet.EncoderBlock_enc_block0;", "net.enc_block0"),
        (
            f"{OURS}/a.b.Unit_unit/torch.nn.modules.activation.ReLU6_act;;"
            f"{OURS}/a.b.Unit_unit/torch.nn.modules.conv.Conv2d_conv;1",
            "net.unit.conv",
        ),
        (f"{OURS}/torch.nn.modules.container.Sequential_up/torch.nn.modules.conv.Conv2d_0;12", "net.up.0"),
        (f"{PEER}/model.segnet.ERD_SegNet_seg_extract;3", "m.seg_extract"),
        ("model_18/tf.compat.v1.transpose_2863/transpose", ""),
        ("matte_alpha_output", ""),
        ("tfl.dequantize3", ""),
        ("net.enc_block0.conv@1", "net.enc_block0.conv"),
        ("net.up.0@12_dequant", "net.up.0"),
        ("@3", ""),
        ("12", ""),
        ("12_dequant", ""),
        ("StatefulPartitionedCall:0", ""),
        ("", ""),
    ],
)
def test_paths(name: str, module: str) -> None:
    assert find_module(name) == module
