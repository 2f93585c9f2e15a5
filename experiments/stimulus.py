"""Statistics of the generated Pathfinder images beside those of the reference: python -m experiments.stimulus

The reference figures are of images made by the published generator's algorithm with Long Range Arena's parameters. A
difference is given in units of its tolerance, four standard errors: beyond 1 the two are not the same stimulus.
"""

import math
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy import ndimage

from gconv import cli
from gconv.data.generators.paddles import Stimulus
from gconv.data.generators.pathfinder import STIMULI, Scenes, draw
from gconv.errors import UserError
from gconv.training.metrics import write_json

# Means and standard deviations over the reference's images.
REFERENCE_IMAGES = {32: 10_467, 128: 163}
REFERENCE = {
    32: {
        "ink": (0.1447, 0.0144),
        "pixel mean": (20.15, 1.98),
        "pixel std": (50.94, 2.53),
        "zeros": (0.6589, 0.0382),
        "components > 32": (12.69, 3.16),
        "components > 64": (13.71, 3.23),
        "marker distance": (13.03, 5.07),
        "marker peak": (239.7, 13.6),
        "paddle pixels": (129.2, 5.1),
        "target pixels": (124.8, 6.2),
        "distractor pixels": (155.0, 10.0),
        "distractors": (1.148, 0.912),
        "attempts": (323, 318),
        "targets overlap": (0.208, 0.406),
        "span": (13.29, 3.56),
    },
    128: {
        "ink": (0.0543, 0.0024),
        "pixel mean": (7.89, 0.34),
        "pixel std": (35.60, 0.81),
        "zeros": (0.8634, 0.0061),
        "components > 32": (57.3, 2.4),
        "marker distance": (75.2, 20.7),
        "marker peak": (255, 0),
        "paddle pixels": (133.3, 2.6),
        "distractors": (7.72, 0.53),
        "attempts": (310, 553),
        "targets overlap": (0.061, 0.241),
        "span": (76.6, 14.0),
        "terminal row": (43.8, 41.2),
        "terminal column": (38.2, 37.3),
    },
}
HISTOGRAM = {
    32: "0.8426 0.0125 0.0115 0.0079 0.0076 0.0119 0.0091 0.0119 0.0187 0.0206 0.0164 0.0104 0.0064 0.0058 0.0025 "
    "0.0043",
    128: "0.9400 0.0053 0.0063 0.0075 0.0047 0.0022 0.0029 0.0010 0.0004 0.0028 0.0054 0.0053 0.0042 0.0027 0.0067 "
    "0.0026",
}
LAYERED = ("targets overlap", "target pixels", "distractor pixels")  # these need an image's layers: tests check them


class Row(NamedTuple):
    name: str
    mean: float
    std: float
    reference: float
    reference_std: float
    error: float  # |mean − reference| over its tolerance


def statistics(stimulus: Stimulus, scenes: Scenes) -> dict[str, np.ndarray]:
    """One value an image, or NaN, for each name in REFERENCE but those of LAYERED, and the label."""
    images = scenes.images
    found = {
        "share of label 1": scenes.labels,
        "ink": (images > 32).mean(axis=(1, 2)),
        "pixel mean": images.mean(axis=(1, 2)),
        "pixel std": images.std(axis=(1, 2)),
        "zeros": (images == 0).mean(axis=(1, 2)),
        "marker distance": _distance(scenes.markers[:, 0], scenes.markers[:, 1]),
        "distractors": scenes.drawn.sum(axis=1),
        "attempts": scenes.attempts,
        "span": _distance(scenes.tips, scenes.heads[:, :, -1]).mean(axis=1),
        "terminal row": scenes.markers[:, 1, 0],
        "terminal column": scenes.markers[:, 1, 1],
    }
    for name in ("components > 32", "components > 64", "marker peak", "paddle pixels"):
        found[name] = np.zeros(len(images))
    pixels = np.indices(images.shape[1:])
    for i, image in enumerate(images):
        away = [np.hypot(*(pixels - tip[:, None, None])) > stimulus.marker_radius + 2 for tip in scenes.markers[i]]
        for level in (32, 64):
            found[f"components > {level}"][i] = ndimage.label(image > level, np.ones((3, 3)))[1]
        found["marker peak"][i] = max(image[y - 1 : y + 2, x - 1 : x + 2].max() for y, x in scenes.markers[i])
        found["paddle pixels"][i] = image[away[0] & away[1] & (image > 32)].mean()
    return found


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a - b) ** 2).sum(axis=-1))


def compare(size: int, found: dict[str, np.ndarray]) -> list[Row]:
    rows = []
    for name, (mean, std) in {"share of label 1": (0.5, 0.5), **REFERENCE[size]}.items():
        if name not in found:
            continue
        values = found[name][~np.isnan(found[name])]
        tolerance = 4 * std * math.sqrt(1 / REFERENCE_IMAGES[size] + 1 / len(values))
        error = abs(float(values.mean()) - mean)
        rows.append(
            Row(name, float(values.mean()), float(values.std()), mean, std, error / tolerance if error else 0.0)
        )
    return rows


def table(rows: dict[int, list[Row]], images: dict[str, int]) -> str:
    """A Markdown table for each size."""
    parts = []
    for size, found in rows.items():
        parts.append(
            f"{size} × {size}: {images[str(size)]:,} generated images, {REFERENCE_IMAGES[size]:,} of the reference\n\n"
            "| statistic of an image | generated | reference | difference / tolerance |\n|---|---:|---:|---:|\n"
            + "".join(
                f"| {row.name} | {row.mean:.4g} ± {row.std:.3g} | {row.reference:.4g} ± {row.reference_std:.3g} |"
                f" {row.error:.2f} |\n"
                for row in found
            )
        )
    return "\n".join(parts)


def define_flags() -> None:
    flags.DEFINE_string("output", None, "folder for the record and the table")
    flags.DEFINE_list("images", ["10000", "2000"], "how many images of 32 × 32, and of 128 × 128")


def main(argv: list[str]) -> None:
    if (
        len(argv) > 1
        or len(flags.FLAGS.images) != 2
        or not all(n.isdecimal() and int(n) > 1 for n in flags.FLAGS.images)
    ):
        raise UserError("expected --images=N,M, two whole numbers from 2 on, and no other argument")
    folder = cli.output_folder(flags.FLAGS.output)
    images = dict(zip(("32", "128"), map(int, flags.FLAGS.images), strict=True))
    rows = {}
    for size, count in images.items():
        stimulus, parts = STIMULI[int(size)], []
        for start in range(0, count, 1000):
            parts.append(statistics(stimulus, draw(stimulus, 0, start, min(start + 1000, count))))
        rows[int(size)] = compare(
            int(size), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )
    text = table(rows, images)
    print(text)
    if folder is not None:
        write_json(folder / "stimulus.json", {"images": images, "rows": rows})
        (folder / "stimulus.md").write_text(text)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
