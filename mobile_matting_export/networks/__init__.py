"""The published networks, written once and plainly. ``ALL`` is the registry: one line each."""

from mobile_matting_export.networks.esp_dense_seg import ESP_DENSE_SEG
from mobile_matting_export.networks.ldn_fb import LDN_FB
from mobile_matting_export.networks.mmnet import MMNET, MMNET_050, MMNET_075
from mobile_matting_export.networks.mobilenet_dilate_unet import MOBILENET_DILATE_UNET
from mobile_matting_export.networks.modnet import MODNET
from mobile_matting_export.networks.portraitnet import PORTRAITNET, PORTRAITNET_VIDEO
from mobile_matting_export.networks.residualdense_bisenet import RESIDUALDENSE_BISENET
from mobile_matting_export.networks.segmatting import SEGMATTING
from mobile_matting_export.networks.shuffle_seg_skipnet import SHUFFLE_SEG_SKIPNET
from mobile_matting_export.networks.spec import NetworkSpec

ALL: tuple[NetworkSpec, ...] = (
    LDN_FB,
    MMNET,
    MMNET_075,
    MMNET_050,
    PORTRAITNET,
    PORTRAITNET_VIDEO,
    MODNET,
    SEGMATTING,
    MOBILENET_DILATE_UNET,
    SHUFFLE_SEG_SKIPNET,
    ESP_DENSE_SEG,
    RESIDUALDENSE_BISENET,
)
