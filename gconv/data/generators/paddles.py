"""What a Pathfinder stimulus fixes before anything is drawn: images and masks of paddles, and where a next one may be.

The steps and quirks are described in `pathfinder`. Sines, cosines and angles are computed here alone and rounded to
what is far from a tie, so that their last bits, which differ between mathematical libraries, decide nothing.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from gconv.data.generators import raster

ANTIALIAS = 2  # paddles and markers are drawn so many times larger, then shrunk
CROWDED = 459  # masks of two paddles may add up to less than 1.8 · 255
DEGREES = 360
FULL = 255
WEIGHT_UNIT = 1 << 20  # weights of candidates are multiples of 1/2^20


class Stimulus(NamedTuple):
    """What is drawn, in pixels. Long Range Arena's are in `pathfinder.STIMULI`."""

    size: int  # of the window
    padding: int  # width of the border that paddles keep off
    length: int  # of a paddle
    thickness: float  # of a paddle, a multiple of 1/2
    margins: tuple[int, ...]  # kept around paddles; each image draws one of them
    seed_distance: int  # between the first paddles of the two targets
    continuity: float  # the larger, the straighter are the snakes
    marker_radius: float
    target_contrast: float
    distractor_contrast: float
    paddles: int = 14  # of a target
    distractor_paddles: int = 4
    distractors: int = 5


class Tables(NamedTuple):
    """All that depends on a stimulus and a margin only.

    Strokes 0..359 are first paddles: integer degrees -180..179, stamped by their tail. Later ones come from the few
    offsets that a head can have from its pivot; quirk: they are stamped by their head, and drawn backwards from it.
    """

    stimulus: Stimulus
    margin: int
    pad: int
    angles: np.ndarray  # (strokes,) float
    units: np.ndarray  # (strokes, 2) float: their sines and cosines
    paddles: np.ndarray  # (strokes, k, k) uint8: images of the paddles
    targets: np.ndarray  # (strokes, k, k) float32: the same with the targets' contrast
    distractors: np.ndarray  # (strokes, k, k) float32
    masks: np.ndarray  # (strokes, k, k) uint8: the same dilated by the margin before it is shrunk
    room: np.ndarray  # (strokes, k, k) uint8: the largest mask value that lets the paddle pass
    dilated: np.ndarray  # (strokes, k + 2·margin, k + 2·margin) uint8: masks dilated by the margin once more
    offsets: np.ndarray  # (strokes, candidates, 2) int: pivot to possible heads of the next paddle
    weights: np.ndarray  # (strokes, candidates) int64: cos² of the turn to them, 0 in the filling
    next: np.ndarray  # (strokes, candidates) int: their strokes
    solid: list[np.ndarray]  # 360 × (pixels, 2) int: where a first paddle must find free pixels, relative to its tail
    usable: np.ndarray  # (360,) bool
    corner: np.ndarray  # (360, 2) int: least position of the tail of the first target
    extent: np.ndarray  # (360, 2) int: rows and columns of the positions that it can have
    apart: np.ndarray  # (360, 2) float: tail of the first target to that of the second, before rounding
    taken: np.ndarray  # (1, side, side) uint8: masks at the start, see `pathfinder._Masks`
    near: np.ndarray  # (1, side, side) uint8

    def step(self, points: np.ndarray, strokes: np.ndarray, distance: int) -> np.ndarray:
        return _step(points, self.units[strokes], distance)


@functools.cache
def tables(stimulus: Stimulus, margin: int) -> Tables:
    """The tables of a stimulus for one of its margins."""
    size, length = stimulus.size, stimulus.length
    reach = length + margin  # of a head from its pivot
    degrees = np.radians(np.arange(-180, 180))
    samples = np.arange(math.ceil(2 * math.pi * reach)) / reach
    circle = reach * np.stack([np.sin(samples), np.cos(samples)], axis=1)
    heads = np.unique(np.floor(circle + 1e-9), axis=0)  # quirk: rounded down, where steps are rounded up
    angles = np.concatenate([degrees, np.arctan2(*heads.T)])
    units = _units(angles)

    half = reach + math.ceil(stimulus.thickness)
    directions = np.concatenate([units[:DEGREES], -units[DEGREES:]])
    paddles, masks = _stamps(directions, half, stimulus, margin)

    turn = np.abs((angles - angles[:, None] + np.pi) % (2 * np.pi) - np.pi)[:, DEGREES:]
    cosine = np.cos(np.minimum(stimulus.continuity * turn, np.pi / 2))
    weights = np.rint(WEIGHT_UNIT * cosine**2).astype(np.int64)
    order = np.argsort(weights == 0, axis=1, kind="stable")[:, : (weights > 0).sum(axis=1).max()]

    # Quirk: a first paddle is sought where its stamp, shifted by (1, 1) and cut off, would lie on free pixels.
    solid = [np.argwhere(mask == FULL) - half + 1 for mask in masks[:DEGREES]]
    solid = [pixels[(np.abs(pixels) <= reach).all(axis=1)] for pixels in solid]
    low, high = (np.array([f(pixels, axis=0) for pixels in solid]) for f in (np.min, np.max))
    corner, extent = 2 * stimulus.seed_distance - low, size - 4 * stimulus.seed_distance - (high - low)
    # Quirk: no place is found if at some corner of the window all of these pixels would lie outside of it.
    signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    usable = np.array([all((pixels * s >= 0).all(axis=1).any() for s in signs) for pixels in solid])

    pad = half + 2 * margin + 2
    taken, near = np.zeros((2, 1, size + 2 * pad, size + 2 * pad), np.uint8)
    near += FULL
    taken[:, pad:-pad, pad:-pad] = FULL
    for canvas, width in ((taken, stimulus.padding), (near, stimulus.padding + margin)):
        canvas[:, pad + width : -pad - width, pad + width : -pad - width] = 0
    return Tables(
        stimulus=stimulus,
        margin=margin,
        pad=pad,
        angles=angles,
        units=units,
        paddles=paddles,
        targets=(paddles / FULL * stimulus.target_contrast).astype(np.float32),
        distractors=(paddles / FULL * stimulus.distractor_contrast).astype(np.float32),
        masks=masks,
        room=np.minimum(CROWDED - 1 - masks.astype(np.int64), FULL).astype(np.uint8),
        dilated=raster.dilate(masks, margin),
        offsets=heads.astype(np.int64)[order],
        weights=np.take_along_axis(weights, order, axis=1),
        next=DEGREES + order,
        solid=solid,
        usable=usable & (extent > 0).all(axis=1),
        corner=corner,
        extent=extent,
        apart=np.round(stimulus.seed_distance * units[:DEGREES], 9),
        taken=taken,
        near=near,
    )


def _units(angles: np.ndarray) -> np.ndarray:
    """(sin, cos) of n angles, (n, 2) float64, the same with any mathematical library.

    Quirk: the noise of double precision decides how a whole number is rounded up. That of sin 180° and cos 90°, near
    1e-16, is kept; of the others that of cos 120° alone matters away from the window's first rows and columns.
    """
    units = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    units = np.where(np.abs(units) < 1e-9, units, np.round(units, 12))
    units[:, 1] += np.where(units[:, 1] == -0.5, 2**-52, 0)
    return units


def _step(points: np.ndarray, units: np.ndarray, distance: int) -> np.ndarray:
    """Quirk: rounded up, not to the nearest pixel."""
    return np.ceil(points + distance * units).astype(np.int64)


def _stamps(units: np.ndarray, half: int, stimulus: Stimulus, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks (n, 2·half + 1, 2·half + 1) uint8 of paddles from the centre in n directions.

    Quirk: the enlarged canvas isn't quite ANTIALIAS times as large, so paddles come out longer by some per cent.
    """
    centre, grown = half * ANTIALIAS, margin * ANTIALIAS
    ends = _step(np.array([centre]), units, stimulus.length * ANTIALIAS) - centre
    width = round(stimulus.thickness * ANTIALIAS)
    lines = np.stack([raster.line(2 * centre + 1, (int(row), int(column)), width) for row, column in ends])
    dilated = raster.dilate(lines, grown)[:, grown:-grown, grown:-grown]
    weights = raster.lanczos(2 * centre + 1, 2 * half + 1)
    return raster.resample(lines, weights, weights), raster.resample(dilated, weights, weights)


@functools.cache
def marker(size: int, radius: float, row: int, column: int) -> tuple[slice, slice, np.ndarray]:
    """A disc around a pixel: the rows and columns that it reaches, and its values (r, c) float32 there.

    Quirk: its centre is the pixel's corner of the enlarged canvas, a quarter of a pixel up and left of the centre.
    """
    weights = _shrink(ANTIALIAS * size, size)
    reach, edge = math.ceil(ANTIALIAS * radius), math.ceil(radius) + 4  # the filter adds three pixels
    spans = [(max(0, ANTIALIAS * p - reach), min(ANTIALIAS * size, ANTIALIAS * p + reach + 1)) for p in (row, column)]
    y, x = (np.arange(*span) - ANTIALIAS * p for span, p in zip(spans, (row, column), strict=True))
    filled = np.where(y[:, None] ** 2 + x**2 <= (ANTIALIAS * radius) ** 2, FULL, 0)
    rows, columns = (slice(max(0, p - edge), min(size, p + edge + 1)) for p in (row, column))
    stamp = raster.resample(filled, weights[rows, slice(*spans[0])], weights[columns, slice(*spans[1])])
    return rows, columns, (stamp / FULL).astype(np.float32)


_shrink = functools.cache(raster.lanczos)
