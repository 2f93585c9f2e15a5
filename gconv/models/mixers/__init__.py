"""Token mixers behind one interface: gconv and attention differ here and nowhere else.

A mixer is built as `Mixer(features, length, **options, dropout=…, dtype=…, rngs=…)` and called as

    y = mixer(x, mask, key=None)    x, y (batch, length, features); mask (batch, length) bool, True at real tokens

or with x, y (batch, features, length), if its class says `layout = "bcl"` instead of "blc": its block then has that
layout as a whole. Padding is never mixed into real tokens. What stands at padded positions of y has no meaning.
"""

from gconv.models.mixers.attention import Attention
from gconv.models.mixers.convolution import (
    ContentGlobalConv,
    GatedGlobalConv,
    GlobalConv,
    PlainGlobalConv,
    PointwiseGlobalConv,
)
from gconv.models.mixers.fnet import FNet
from gconv.models.mixers.matrix import MixingMatrix
from gconv.models.mixers.mlp_mixer import MlpMixer
from gconv.models.mixers.pointwise import PointwiseMixer
from gconv.models.mixers.state_space import S5

__all__ = [
    "S5",
    "Attention",
    "ContentGlobalConv",
    "FNet",
    "GatedGlobalConv",
    "GlobalConv",
    "MixingMatrix",
    "MlpMixer",
    "PlainGlobalConv",
    "PointwiseGlobalConv",
    "PointwiseMixer",
]
