"""What mirror images of the training pictures are worth."""

from experiments.grid import Part, Table
from experiments.regularization import LONGER

MIRRORED = {"data.mirror": True}

TABLE = Table(
    title="Training pictures doubled by their mirror images, at equal parameters",
    rows={
        "gconv": Part("gconv,match=parameters"),
        "gconv, mirrored": Part("gconv,match=parameters", MIRRORED),
        "attention, modern": Part("attention"),
        "attention, modern, mirrored": Part("attention", MIRRORED),
    },
    columns={"Image for 2000 steps": Part("image,small", LONGER)},
)
