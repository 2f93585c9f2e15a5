"""Path-X by progressive resolution: each side, in half the steps, starts from the best parameters of the one before.

A kernel that is a function of the distance is sampled more densely, so that it covers the image at every side.
Attention, whose rotations know distances in tokens only, is given the same steps and starts.
"""

from experiments.grid import Part, Table

TABLE = Table(
    title="Path-X by progressive resolution, each side from the best of the one before",
    rows={
        "gconv, multi-scale": Part("gconv,multi_scale"),
        "gconv, diagonal": Part("gconv,diagonal"),
        "attention, the multi-scale one's parameters": Part("attention,multi_scale,match=parameters"),
        "attention": Part("attention"),
    },
    columns={f"side {side}": Part(f"pathx,side{side}", {"model.dtype": "bfloat16"}) for side in (32, 64, 128)},
    starts_from={"side 64": "side 32", "side 128": "side 64"},
    note="By the preset small a quarter of each side, as many steps for each, and both attentions are one model.",
)
