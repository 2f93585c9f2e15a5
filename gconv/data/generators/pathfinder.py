"""Pathfinder and Path-X: do two dots lie on the same dashed contour? (Linsley et al. 2018, arXiv:1805.08315)

An image shows two long snakes of paddles and a few short ones as distractors. One dot marks the first tip of a long
snake, another the last tip of the same snake (label 1) or of the other one (label 0). The parameters in STIMULI are
those of Long Range Arena (Tay et al. 2021), hard split: Pathfinder is 32 × 32, Path-X 128 × 128. The steps, and quirks
of them that shape the distribution, follow the published stimulus generator; they are marked as quirks where a reader
would expect something else.

Positions are (row, column), rows downwards. Angles are in radians, with (sin, cos) for (row, column). Every random
number is a hash of the seed, the image's index and the number's place in that image. Sines enter through the
rounded tables of `paddles` only; the rest are integers and single IEEE operations. So image i of a seed is the same on
every machine, in any batch and any process.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gconv.data.generators.paddles import ANTIALIAS, DEGREES, FULL, WEIGHT_UNIT, Stimulus, Tables, marker, tables
from gconv.data.generators.workers import map_in_order

PADDLE_DRAWS = 3  # for each paddle, before its snake is given up
SEED_DRAWS = 3  # for a distractor's first paddle, should it leave the window
DISTRACTOR_ATTEMPTS = 5  # for each distractor, before it is left out
FREE = 76  # a mask value up to 0.3 · 255 counts as free
MAX_ATTEMPTS = 1_000_000  # at a pair of targets; the presets need a few hundred to a few thousand
CHUNK_PIXELS = 1 << 21  # of images that are drawn together; it changes no result

STIMULI = {
    # The reference generator draws targets at 32 × 32, and only there, with 3/4 of the distractors' contrast.
    32: Stimulus(32, 1, 2, 0.5, (1,), 7, 1.0, 1.5, target_contrast=1.5, distractor_contrast=2.0),
    64: Stimulus(64, 1, 5, 1.0, (1,), 12, 1.8, 2.5, target_contrast=0.8, distractor_contrast=0.8),
    128: Stimulus(128, 1, 5, 1.5, (2, 3), 20, 1.8, 3.0, target_contrast=0.9, distractor_contrast=0.9, distractors=8),
    256: Stimulus(256, 22, 5, 2.0, (3,), 27, 1.8, 5.0, target_contrast=1.0, distractor_contrast=1.0, distractors=7),
}
# The reference's shortest contours, with as many distractors of a third of their length as LRA's rule gives, 20 // 2.
SHORT = STIMULI[32]._replace(paddles=6, distractor_paddles=2, distractors=10)


class Example(NamedTuple):
    image: np.ndarray  # (size, size) uint8
    label: int  # 1: both markers are on the same snake


class Scenes(NamedTuple):
    """n images and the geometry that they show. A paddle of a snake joins its tail to its head."""

    images: np.ndarray  # (n, size, size) uint8
    labels: np.ndarray  # (n,) int
    margins: np.ndarray  # (n,) int
    attempts: np.ndarray  # (n,) int: pairs of targets that were drawn, up to the one that is kept
    peaks: np.ndarray  # (n,) float: the brightest value before the image is stretched to 0..255; a marker's is 1
    markers: np.ndarray  # (n, 2, 2) int: where the first and the last tip is marked
    tips: np.ndarray  # (n, 2, 2) int: tail of the first paddle of either target
    heads: np.ndarray  # (n, 2, paddles, 2) int: heads of the targets' paddles
    angles: np.ndarray  # (n, 2, paddles) float: from tail to head
    distractor_tips: np.ndarray  # (n, distractors, 2) int; these three are meaningless where `drawn` is false
    distractor_heads: np.ndarray  # (n, distractors, distractor_paddles, 2) int
    distractor_angles: np.ndarray  # (n, distractors, distractor_paddles) float
    drawn: np.ndarray  # (n, distractors) bool


def generate(stimulus: Stimulus, seed: int, start: int, stop: int, workers: int = 1) -> Iterator[Example]:
    """Yields images start..stop-1 of a seed, the same ones for any number of worker processes."""
    if workers < 1:
        raise ValueError(f"workers {workers}: expected at least 1")
    _check(stimulus, seed, start, stop)
    chunk = max(1, CHUNK_PIXELS // stimulus.size**2)
    tasks = [(stimulus, seed, i, min(i + chunk, stop)) for i in range(start, stop, chunk)]
    return _examples(tasks, workers)


def _examples(tasks: list[tuple[Stimulus, int, int, int]], workers: int) -> Iterator[Example]:
    if workers == 1:
        for task in tasks:
            yield from map(Example, *_chunk(*task))
        return
    for images, labels in map_in_order(_chunk, tasks, workers):
        yield from map(Example, images, labels)


def _chunk(stimulus: Stimulus, seed: int, start: int, stop: int) -> tuple[np.ndarray, list[int]]:
    scenes = draw(stimulus, seed, start, stop)
    return scenes.images, scenes.labels.tolist()


def draw(stimulus: Stimulus, seed: int, start: int, stop: int) -> Scenes:
    """Draws images start..stop-1 of a seed with their geometry, in memory and in this process."""
    _check(stimulus, seed, start, stop)
    keys = _hash(np.full(stop - start, seed, np.uint64), np.arange(start, stop, dtype=np.uint64))
    margins = np.array(stimulus.margins)[_below(_hash(keys, 0, 1), len(stimulus.margins))]
    members = [np.flatnonzero(margins == margin) for margin in stimulus.margins]
    parts = [_scenes(tables(stimulus, m), keys[rows]) for m, rows in zip(stimulus.margins, members, strict=True)]
    order = np.argsort(np.concatenate(members))
    return Scenes(*(np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True)))


def _scenes(t: Tables, keys: np.ndarray) -> Scenes:
    n = len(keys)
    labels, origin = _below(_hash(keys, 0, 0), 2), _below(_hash(keys, 0, 2), 2)
    targets, attempts, masks = _targets(t, keys)
    distractors, drawn = _distractors(t, keys, masks)
    values = _paint(t, targets, distractors, drawn)
    heads, rows = _heads(t, targets), np.arange(n)
    terminal = np.where(labels == 1, origin, 1 - origin)
    markers = np.stack([targets.centres[rows, origin, 0], heads[rows, terminal, -1]], axis=1)
    _mark(t, values, markers)
    peaks = values.max(axis=(1, 2)).astype(np.float64)  # the lowest value is 0
    return Scenes(
        images=np.floor(FULL * values.astype(np.float64) / peaks[:, None, None] + 0.5).astype(np.uint8),
        labels=labels,
        margins=np.full(n, t.margin),
        attempts=attempts,
        peaks=peaks,
        markers=markers,
        tips=targets.centres[:, :, 0],
        heads=heads,
        angles=t.angles[targets.strokes],
        distractor_tips=distractors.centres[:, :, 0],
        distractor_heads=_heads(t, distractors),
        distractor_angles=t.angles[distractors.strokes],
        drawn=drawn,
    )


def _check(stimulus: Stimulus, seed: int, start: int, stop: int) -> None:
    """Raises ValueError for what can't be drawn."""
    s = stimulus
    rules = {
        f"start {start}, stop {stop}: expected 0 <= start <= stop": 0 <= start <= stop,
        f"seed {seed}: expected 0 <= seed < 2^64": 0 <= seed < 1 << 64,
        f"padding {s.padding}, length {s.length}: expected at least 1": min(s.padding, s.length) >= 1,
        f"thickness {s.thickness}: expected a multiple of 1/2 above 0": s.thickness > 0
        and s.thickness * ANTIALIAS % 1 == 0,
        f"margins {s.margins}: expected one or more, at least 1": min(s.margins, default=0) >= 1,
        f"continuity {s.continuity}: expected above 0": s.continuity > 0,
        f"marker_radius {s.marker_radius}: expected above 0": s.marker_radius > 0,
        f"contrasts {s.target_contrast}, {s.distractor_contrast}: expected above 0": (
            min(s.target_contrast, s.distractor_contrast) > 0
        ),
        f"paddles {s.paddles}, distractor_paddles {s.distractor_paddles}, distractors {s.distractors}: "
        "expected at least 2, 2 and 0": s.paddles >= 2 and s.distractor_paddles >= 2 and s.distractors >= 0,
    }
    for complaint, holds in rules.items():
        if not holds:
            raise ValueError(complaint)
    # The first paddles and their pivots then lie in the window whatever is drawn, which saves repeating draws.
    nearest = max(s.margins) + s.length + 3
    if s.seed_distance < nearest:
        raise ValueError(f"seed_distance {s.seed_distance}: expected at least length + margin + 3 = {nearest}")
    for margin in s.margins:
        if 4 * s.seed_distance >= s.size or not tables(s, margin).usable.any():
            raise ValueError(f"size {s.size}: too small for length {s.length} and seed_distance {s.seed_distance}")


class _Snakes(NamedTuple):
    """Paddles as strokes (rows of the tables) and the pixels that their stamps are centred on."""

    strokes: np.ndarray  # (n, snakes, paddles) int
    centres: np.ndarray  # (n, snakes, paddles, 2) int


def _heads(t: Tables, snakes: _Snakes) -> np.ndarray:
    heads = snakes.centres.copy()
    heads[..., 0, :] = t.step(heads[..., 0, :], snakes.strokes[..., 0], t.stimulus.length)
    return heads


def _unplaced(n: int, snakes: int, paddles: int) -> _Snakes:
    return _Snakes(np.zeros((n, snakes, paddles), np.int64), np.zeros((n, snakes, paddles, 2), np.int64))


class _Masks(NamedTuple):
    """Where paddles have been, 0..255, on windows with a border of `pad` pixels around."""

    taken: np.ndarray  # (n, side, side) uint8, 0 outside the window: what a new paddle's mask is added to
    near: np.ndarray  # (n, side, side) uint8, 255 outside: the same dilated by the margin, which repels new heads


# Random numbers: hashes by the finaliser of SplitMix64 (Steele, Lea & Flood 2014).


def _hash(key: np.ndarray, *counters: np.ndarray | int) -> np.ndarray:
    for counter in counters:
        key = key + (np.array(counter, np.uint64, ndmin=1) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
    return key


def _below(bits: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """Uniform integers 0..bound-1, for a bound up to 2^32, from 64 random bits."""
    return (((bits >> np.uint64(32)) * np.asarray(bound).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


# Growing snakes.


def _stamp(canvas: np.ndarray, images: np.ndarray, which: np.ndarray, centres: np.ndarray, pad: int) -> None:
    """Merges images (m, k, k) by maximum into canvas[which], centred on window pixels (m, 2)."""
    windows = sliding_window_view(canvas, images.shape[1:], axis=(1, 2), writeable=True)
    corner = centres + (pad - images.shape[1] // 2)
    at = (which, corner[:, 0], corner[:, 1])
    windows[at] = np.maximum(windows[at], images)


def _take(t: Tables, masks: _Masks, which: np.ndarray, strokes: np.ndarray, centres: np.ndarray) -> None:
    _stamp(masks.taken, t.masks[strokes], which, centres, t.pad)
    _stamp(masks.near, t.dilated[strokes], which, centres, t.pad)


def _grow(t: Tables, masks: _Masks, snakes: _Snakes, keys: np.ndarray) -> np.ndarray:
    """Extends snakes from their first paddles in turn, one paddle at a time; returns the rows where all succeeded.

    A paddle enters the masks only when the next one of its snake has been placed, so neighbours may touch. Of the last
    paddles that of the last snake enters: quirk: that of the first target never does.
    """
    strokes, centres = snakes
    snakes_per_row, paddles = strokes.shape[1:]
    side = masks.near.shape[1]
    flat = masks.near.reshape(-1)
    windows = sliding_window_view(masks.taken, t.room.shape[1:], axis=(1, 2))
    shift = t.pad - t.room.shape[1] // 2
    cells = t.offsets @ np.array([side, 1])
    length, margin = t.stimulus.length, t.margin
    heads = t.step(centres[:, :, 0], strokes[:, :, 0], length)
    pivots = t.step(heads, strokes[:, :, 0], -length - margin)
    alive = np.arange(len(strokes))
    for k in range(1, paddles):
        for snake in range(snakes_per_row):
            last = strokes[alive, snake, k - 1]
            pivot = t.step(pivots[alive, snake], last, length + 2 * margin)
            cell = (alive * side + pivot[:, 0] + t.pad) * side + pivot[:, 1] + t.pad
            weights = np.cumsum(t.weights[last] * (FULL - flat[cell[:, None] + cells[last]]), axis=1)
            total = weights[:, -1]
            placed = np.zeros(len(alive), bool)
            pending = np.flatnonzero(total >= 1e-4 * WEIGHT_UNIT * FULL)
            for attempt in range(PADDLE_DRAWS):
                bits = _hash(keys[alive[pending]], 16 + PADDLE_DRAWS * (snakes_per_row * k + snake) + attempt)
                point = ((bits >> np.uint64(34)) * total[pending].astype(np.uint64)) >> np.uint64(30)
                choice = (weights[pending] <= point.astype(np.int64)[:, None]).sum(axis=1)
                stroke = t.next[last[pending], choice]
                head = pivot[pending] + t.offsets[last[pending], choice]
                found = windows[alive[pending], head[:, 0] + shift, head[:, 1] + shift]
                fits = (found <= t.room[stroke]).all(axis=(1, 2))
                rows = alive[pending[fits]]
                strokes[rows, snake, k], centres[rows, snake, k] = stroke[fits], head[fits]
                placed[pending[fits]] = True
                pending = pending[~fits]
            alive = alive[placed]
            pivots[alive, snake] = pivot[placed]
            _take(t, masks, alive, last[placed], centres[alive, snake, k - 1])
    _take(t, masks, alive, strokes[alive, -1, -1], centres[alive, -1, -1])
    return alive


def _targets(t: Tables, keys: np.ndarray) -> tuple[_Snakes, np.ndarray, _Masks]:
    """The first pair of targets of each image that succeeds, which attempt that was (from 1), and its masks."""
    n, paddles = len(keys), t.stimulus.paddles
    kept = _unplaced(n, 2, paddles)
    masks = _Masks(*(np.repeat(empty, n, axis=0) for empty in (t.taken, t.near)))
    attempts, todo = np.zeros(n, np.int64), np.arange(n)
    while len(todo):
        if (attempts[todo] >= MAX_ATTEMPTS).any():
            raise ValueError(f"{MAX_ATTEMPTS} pairs of targets failed: {t.stimulus} has too little room for them")
        ahead = math.ceil(min(1024, 4 * CHUNK_PIXELS // t.stimulus.size**2) / (len(todo) * t.usable.mean()))
        numbers = attempts[todo][:, None] + np.arange(ahead)
        tries = _hash(_hash(keys[todo], 1)[:, None], numbers)
        owner, number = np.nonzero(t.usable[_below(_hash(tries, 0), DEGREES)])  # the others fail at once
        tries = tries[owner, number]
        trial = _unplaced(len(owner), 2, paddles)
        _seed_targets(t, trial, tries)
        trial_masks = _Masks(*(np.repeat(empty, len(owner), axis=0) for empty in (t.taken, t.near)))
        done = _grow(t, trial_masks, trial, tries)
        winners, first = np.unique(owner[done], return_index=True)
        attempts[todo] += ahead
        attempts[todo[winners]] += number[done[first]] + 1 - ahead
        for whole, part in zip((*kept, *masks), (*trial, *trial_masks), strict=True):
            whole[todo[winners]] = part[done[first]]
        todo = np.delete(todo, winners)
    return kept, attempts, masks


def _seed_targets(t: Tables, snakes: _Snakes, keys: np.ndarray) -> None:
    """First paddles: one near the centre, in a free place; the other near it. Quirk: the latter may lie on the first.

    Neither can leave the window (`_check` sees to it), so no draw is repeated.
    """
    degree, place, other, direction = (_hash(keys, i) for i in range(4))
    first = _below(degree, DEGREES)
    position = _below(place, t.extent[first].prod(axis=1))
    columns = t.extent[first, 1]
    tail = t.corner[first] + np.stack([position // columns, position % columns], axis=1)
    snakes.strokes[:, 0, 0], snakes.centres[:, 0, 0] = first, tail
    snakes.strokes[:, 1, 0] = _below(other, DEGREES)
    snakes.centres[:, 1, 0] = np.rint(tail + t.apart[_below(direction, DEGREES)])


def _distractors(t: Tables, keys: np.ndarray, masks: _Masks) -> tuple[_Snakes, np.ndarray]:
    """Draws distractors around the targets in `masks`, which it changes; returns them and which there are."""
    n, count, paddles = len(keys), t.stimulus.distractors, t.stimulus.distractor_paddles
    kept = _unplaced(n, count, paddles)
    drawn = np.zeros((n, count), bool)
    for snake in range(count):
        for attempt in range(DISTRACTOR_ATTEMPTS):
            tries = _hash(keys, 2, snake * DISTRACTOR_ATTEMPTS + attempt)
            degrees = np.stack([_below(_hash(tries, 2 * i), DEGREES) for i in range(SEED_DRAWS)], axis=1)
            hopeful = np.flatnonzero(~drawn[:, snake] & t.usable[degrees[:, 0]])
            starts = [(i, _seed_distractor(t, masks.taken[i], degrees[i], tries[i : i + 1])) for i in hopeful]
            rows = np.array([i for i, start in starts if start is not None], np.int64)
            trial = _unplaced(len(rows), 1, paddles)
            for k, start in enumerate(start for _, start in starts if start is not None):
                trial.strokes[k, 0, 0], trial.centres[k, 0, 0] = start
            trial_masks = _Masks(masks.taken[rows], masks.near[rows])
            done = _grow(t, trial_masks, trial, tries[rows])
            for whole, part in zip(masks, trial_masks, strict=True):
                whole[rows[done]] = part[done]
            for whole, part in zip(kept, trial, strict=True):
                whole[rows[done], snake] = part[done, 0]
            drawn[rows[done], snake] = True
    return kept, drawn


def _seed_distractor(
    t: Tables, taken: np.ndarray, degrees: np.ndarray, key: np.ndarray
) -> tuple[int, np.ndarray] | None:
    """Stroke and tail of a distractor's first paddle, in a free place anywhere; None if there is none."""
    size, pad, side = t.stimulus.size, t.pad, len(taken)
    if (taken[pad : pad + size, pad : pad + size] <= FREE).sum() < 0.01 * size**2:
        return None
    blocked, start = taken.reshape(-1) > FREE, pad * (side + 1)
    for i, degree in enumerate(degrees):
        if not t.usable[degree]:
            return None
        hit = np.zeros(size * side, bool)
        for shift in start + t.solid[degree] @ np.array([side, 1]):
            hit |= blocked[shift : shift + size * side]
        places = np.flatnonzero(~hit.reshape(size, side)[:, :size])
        if not len(places):
            return None
        tail = np.array(divmod(int(places[_below(_hash(key, 2 * i + 1), len(places))[0]]), size))
        head = t.step(tail, degree, t.stimulus.length)
        points = np.stack([head, t.step(head, degree, -t.stimulus.length - t.margin)])
        if (points >= 0).all() and (points < size).all():
            return int(degree), tail
    return None


# Painting. Values are float32 and are stretched to 0..255 in float64; so are halves rounded in the reference images.


def _paint(t: Tables, targets: _Snakes, distractors: _Snakes, drawn: np.ndarray) -> np.ndarray:
    """The paddles of n images, (n, size, size) float32."""
    n, side = len(drawn), t.taken.shape[1]
    canvas = np.zeros((n, side, side), np.float32)
    for snakes, shown, stamps in ((targets, np.ones((n, 2), bool), t.targets), (distractors, drawn, t.distractors)):
        for snake in range(shown.shape[1]):
            rows = np.flatnonzero(shown[:, snake])
            for k in range(snakes.strokes.shape[2]):
                _stamp(canvas, stamps[snakes.strokes[rows, snake, k]], rows, snakes.centres[rows, snake, k], t.pad)
    return canvas[:, t.pad : t.pad + t.stimulus.size, t.pad : t.pad + t.stimulus.size]


def _mark(t: Tables, values: np.ndarray, markers: np.ndarray) -> None:
    for canvas, tips in zip(values, markers.tolist(), strict=True):
        for row, column in tips:
            rows, columns, stamp = marker(t.stimulus.size, t.stimulus.marker_radius, row, column)
            np.maximum(canvas[rows, columns], stamp, out=canvas[rows, columns])
