"""Pathfinder and Path-X: do two dots lie on the same dashed contour? (Linsley et al. 2018, arXiv:1805.08315)

An image shows two long snakes of paddles and a few short ones as distractors. One dot marks the first tip of a long
snake, another the last tip of the same snake (label 1) or of the other one (label 0). The parameters are those of Long
Range Arena (Tay et al. 2021), hard split: Pathfinder is 32 × 32, Path-X 128 × 128. The steps, and quirks of them that
shape the distribution, follow the published stimulus generator; they are marked as quirks where a reader would expect
something else.

Positions are (row, column), rows downwards. Angles are in radians, with (sin, cos) for (row, column). Every random
number is a hash of the seed, the image's index and the number's place in that image, and no result of floating-point
arithmetic decides anything without a margin: image i of a seed is the same on every machine, for any batch and worker.
"""

import collections
import functools
import math
import multiprocessing
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gconv.data.generators import raster

ANTIALIAS = 2  # paddles and markers are drawn so many times larger, then shrunk
PADDLE_DRAWS = 3  # for each paddle, before its snake is given up
SEED_DRAWS = 3  # for a distractor's first paddle, should it leave the window
DISTRACTOR_ATTEMPTS = 5  # for each distractor, before it is left out
FREE = 76  # a mask value up to 0.3 · 255 counts as free
CROWDED = 459  # masks of two paddles may add up to less than 1.8 · 255
MAX_ATTEMPTS = 1_000_000  # at a pair of targets; the presets need a few hundred to a few thousand
CHUNK_PIXELS = 1 << 21  # of images that are drawn together; it changes no result
DEGREES = 360
FULL = 255
WEIGHT_UNIT = 1 << 20  # weights of candidates are multiples of 1/2^20


class Stimulus(NamedTuple):
    """What is drawn, in pixels. The presets are in STIMULI."""

    size: int  # of the window
    padding: int  # width of the border that paddles keep off
    length: int  # of a paddle
    thickness: float  # of a paddle, in halves
    margins: tuple[int, ...]  # kept around paddles; each image draws one of them
    seed_distance: int  # between the first paddles of the two targets
    continuity: float  # the larger, the straighter are the snakes
    marker_radius: float
    target_contrast: float
    distractor_contrast: float
    paddles: int = 14  # of a target
    distractor_paddles: int = 4
    distractors: int = 5


STIMULI = {
    # The reference generator draws targets at 32 × 32, and only there, with 3/4 of the distractors' contrast.
    32: Stimulus(32, 1, 2, 0.5, (1,), 7, 1.0, 1.5, target_contrast=1.5, distractor_contrast=2.0),
    64: Stimulus(64, 1, 5, 1.0, (1,), 12, 1.8, 2.5, target_contrast=0.8, distractor_contrast=0.8),
    128: Stimulus(128, 1, 5, 1.5, (2, 3), 20, 1.8, 3.0, target_contrast=0.9, distractor_contrast=0.9, distractors=8),
    256: Stimulus(256, 22, 5, 2.0, (3,), 27, 1.8, 5.0, target_contrast=1.0, distractor_contrast=1.0, distractors=7),
}


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
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pending: collections.deque = collections.deque()
        for task in tasks:  # Pool.imap would keep everything that a slow consumer hasn't taken
            pending.append(pool.apply_async(_chunk, task))
            if len(pending) > 2 * workers:
                yield from map(Example, *pending.popleft().get())
        while pending:
            yield from map(Example, *pending.popleft().get())


def _chunk(stimulus: Stimulus, seed: int, start: int, stop: int) -> tuple[np.ndarray, list[int]]:
    scenes = draw(stimulus, seed, start, stop)
    return scenes.images, scenes.labels.tolist()


def draw(stimulus: Stimulus, seed: int, start: int, stop: int) -> Scenes:
    """Draws images start..stop-1 of a seed with their geometry, in memory and in this process."""
    _check(stimulus, seed, start, stop)
    n, paddles = stop - start, stimulus.paddles
    shorts = (n, stimulus.distractors, stimulus.distractor_paddles)
    keys = _hash(np.full(n, seed, np.uint64), np.arange(start, stop, dtype=np.uint64))
    labels, chosen, first = (_below(_hash(keys, 0, i), m) for i, m in enumerate((2, len(stimulus.margins), 2)))
    scenes = Scenes(
        images=np.zeros((n, stimulus.size, stimulus.size), np.uint8),
        labels=labels,
        margins=np.array(stimulus.margins)[chosen],
        attempts=np.zeros(n, np.int64),
        peaks=np.zeros(n),
        markers=np.zeros((n, 2, 2), np.int64),
        tips=np.zeros((n, 2, 2), np.int64),
        heads=np.zeros((n, 2, paddles, 2), np.int64),
        angles=np.zeros((n, 2, paddles)),
        distractor_tips=np.zeros((*shorts[:2], 2), np.int64),
        distractor_heads=np.zeros((*shorts, 2), np.int64),
        distractor_angles=np.zeros(shorts),
        drawn=np.zeros(shorts[:2], bool),
    )
    for i, margin in enumerate(stimulus.margins):
        members = np.flatnonzero(chosen == i)
        t = _tables(stimulus, margin)
        targets, attempts, masks = _targets(t, keys[members])
        distractors, drawn = _distractors(t, keys[members], masks)
        values = _paint(t, targets, distractors, drawn)
        rows = np.arange(len(members))
        origin, terminal = first[members], np.where(labels[members] == 1, first[members], 1 - first[members])
        heads, short_heads = t.heads(targets), t.heads(distractors)
        markers = np.stack([targets.centres[rows, origin, 0], heads[rows, terminal, -1]], axis=1)
        _mark(t, values, markers)
        highest = values.max(axis=(1, 2)).astype(np.float64)  # the lowest is 0
        scenes.images[members] = np.floor(FULL * values.astype(np.float64) / highest[:, None, None] + 0.5)
        scenes.attempts[members] = attempts
        scenes.peaks[members] = highest
        scenes.markers[members] = markers
        scenes.tips[members], scenes.heads[members] = targets.centres[:, :, 0], heads
        scenes.angles[members] = t.angles[targets.strokes]
        scenes.distractor_tips[members], scenes.distractor_heads[members] = distractors.centres[:, :, 0], short_heads
        scenes.distractor_angles[members] = t.angles[distractors.strokes]
        scenes.drawn[members] = drawn
    return scenes


def _check(stimulus: Stimulus, seed: int, start: int, stop: int) -> None:
    """Raises ValueError for what can't be drawn."""
    s = stimulus
    rules = {
        f"start {start}, stop {stop}: expected 0 <= start <= stop": 0 <= start <= stop,
        f"seed {seed}: expected 0 <= seed < 2^64": 0 <= seed < 1 << 64,
        f"padding {s.padding}, length {s.length}: expected at least 1": min(s.padding, s.length) >= 1,
        f"thickness {s.thickness}: expected halves above 0": s.thickness > 0 and s.thickness * ANTIALIAS % 1 == 0,
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
        if 4 * s.seed_distance >= s.size or not _tables(s, margin).usable.any():
            raise ValueError(f"size {s.size}: too small for length {s.length} and seed_distance {s.seed_distance}")


class _Snakes(NamedTuple):
    """Paddles as strokes (rows of the tables) and the pixels that their stamps are centred on."""

    strokes: np.ndarray  # (n, snakes, paddles) int
    centres: np.ndarray  # (n, snakes, paddles, 2) int


class _Masks(NamedTuple):
    """Where paddles have been, 0..255, on windows with a border of `pad` pixels around."""

    taken: np.ndarray  # (n, side, side) uint8, 0 outside the window: what a new paddle's mask is added to
    near: np.ndarray  # (n, side, side) uint8, 255 outside: the same dilated by the margin, which repels new heads


class _Tables(NamedTuple):
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
    near: np.ndarray  # (strokes, k + 2·margin, k + 2·margin) uint8: masks dilated once more
    offsets: np.ndarray  # (strokes, candidates, 2) int: pivot to possible heads of the next paddle
    weights: np.ndarray  # (strokes, candidates) int64: cos² of the turn to them, 0 in the filling
    next: np.ndarray  # (strokes, candidates) int: their strokes
    solid: list[np.ndarray]  # 360 × (pixels, 2) int: where a first paddle must find free pixels, relative to its tail
    usable: np.ndarray  # (360,) bool
    corner: np.ndarray  # (360, 2) int: least position of the tail of the first target
    extent: np.ndarray  # (360, 2) int: rows and columns of the positions that it can have
    apart: np.ndarray  # (360, 2) float: tail of the first target to that of the second, before rounding
    empty: _Masks  # (1, side, side)

    def heads(self, snakes: _Snakes) -> np.ndarray:
        heads = snakes.centres.copy()
        heads[..., 0, :] = self.step(heads[..., 0, :], snakes.strokes[..., 0], self.stimulus.length)
        return heads

    def step(self, points: np.ndarray, strokes: np.ndarray, distance: int) -> np.ndarray:
        return _step(points, self.units[strokes], distance)


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


def _take(t: _Tables, masks: _Masks, which: np.ndarray, strokes: np.ndarray, centres: np.ndarray) -> None:
    _stamp(masks.taken, t.masks[strokes], which, centres, t.pad)
    _stamp(masks.near, t.near[strokes], which, centres, t.pad)


def _grow(t: _Tables, masks: _Masks, snakes: _Snakes, keys: np.ndarray) -> np.ndarray:
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


def _targets(t: _Tables, keys: np.ndarray) -> tuple[_Snakes, np.ndarray, _Masks]:
    """The first pair of targets of each image that succeeds, which attempt that was (from 1), and its masks."""
    n, paddles = len(keys), t.stimulus.paddles
    kept = _Snakes(np.zeros((n, 2, paddles), np.int64), np.zeros((n, 2, paddles, 2), np.int64))
    masks = _Masks(*(np.repeat(empty, n, axis=0) for empty in t.empty))
    attempts, todo = np.zeros(n, np.int64), np.arange(n)
    while len(todo):
        if (attempts[todo] >= MAX_ATTEMPTS).any():
            raise ValueError(f"{MAX_ATTEMPTS} pairs of targets failed: {t.stimulus} has too little room for them")
        ahead = math.ceil(min(1024, 4 * CHUNK_PIXELS // t.stimulus.size**2) / (len(todo) * t.usable.mean()))
        numbers = attempts[todo][:, None] + np.arange(ahead)
        tries = _hash(_hash(keys[todo], 1)[:, None], numbers)
        owner, number = np.nonzero(t.usable[_below(_hash(tries, 0), DEGREES)])  # the others fail at once
        tries = tries[owner, number]
        trial = _Snakes(np.zeros((len(owner), 2, paddles), np.int64), np.zeros((len(owner), 2, paddles, 2), np.int64))
        _seed_targets(t, trial, tries)
        trial_masks = _Masks(*(np.repeat(empty, len(owner), axis=0) for empty in t.empty))
        done = _grow(t, trial_masks, trial, tries)
        winners, first = np.unique(owner[done], return_index=True)
        attempts[todo] += ahead
        attempts[todo[winners]] += number[done[first]] + 1 - ahead
        for whole, part in zip((*kept, *masks), (*trial, *trial_masks), strict=True):
            whole[todo[winners]] = part[done[first]]
        todo = np.delete(todo, winners)
    return kept, attempts, masks


def _seed_targets(t: _Tables, snakes: _Snakes, keys: np.ndarray) -> None:
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


def _distractors(t: _Tables, keys: np.ndarray, masks: _Masks) -> tuple[_Snakes, np.ndarray]:
    """Draws distractors around the targets in `masks`, which it changes; returns them and which there are."""
    n, count, paddles = len(keys), t.stimulus.distractors, t.stimulus.distractor_paddles
    kept = _Snakes(np.zeros((n, count, paddles), np.int64), np.zeros((n, count, paddles, 2), np.int64))
    drawn = np.zeros((n, count), bool)
    for snake in range(count):
        for attempt in range(DISTRACTOR_ATTEMPTS):
            tries = _hash(keys, 2, snake * DISTRACTOR_ATTEMPTS + attempt)
            degrees = np.stack([_below(_hash(tries, 2 * i), DEGREES) for i in range(SEED_DRAWS)], axis=1)
            hopeful = np.flatnonzero(~drawn[:, snake] & t.usable[degrees[:, 0]])
            seeds = [_seed_distractor(t, masks.taken[i], degrees[i], tries[i : i + 1]) for i in hopeful]
            rows = hopeful[[seed is not None for seed in seeds]]
            trial = _Snakes(np.zeros((len(rows), 1, paddles), np.int64), np.zeros((len(rows), 1, paddles, 2), np.int64))
            for i, seed in enumerate(filter(None, seeds)):
                trial.strokes[i, 0, 0], trial.centres[i, 0, 0] = seed
            trial_masks = _Masks(masks.taken[rows], masks.near[rows])
            done = _grow(t, trial_masks, trial, tries[rows])
            for whole, part in zip(masks, trial_masks, strict=True):
                whole[rows[done]] = part[done]
            for whole, part in zip(kept, trial, strict=True):
                whole[rows[done], snake] = part[done, 0]
            drawn[rows[done], snake] = True
    return kept, drawn


def _seed_distractor(
    t: _Tables, taken: np.ndarray, degrees: np.ndarray, key: np.ndarray
) -> tuple[int, np.ndarray] | None:
    """Stroke and tail of a distractor's first paddle, in a free place anywhere; None if there is none."""
    size, pad, side = t.stimulus.size, t.pad, len(taken)
    window = np.s_[pad : pad + size, pad : pad + size]
    free = taken[window] <= FREE
    if free.sum() < 0.01 * size**2:
        return None
    blocked = np.zeros((side, side), bool)
    blocked[window] = ~free
    frame = blocked[window]
    frame[[0, -1]] = frame[:, [0, -1]] = True
    flat, start = blocked.reshape(-1), pad * (side + 1)
    for i, degree in enumerate(degrees):
        if not t.usable[degree]:
            return None
        hit = np.zeros(size * side, bool)
        for shift in start + t.solid[degree] @ np.array([side, 1]):
            hit |= flat[shift : shift + size * side]
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


def _paint(t: _Tables, targets: _Snakes, distractors: _Snakes, drawn: np.ndarray) -> np.ndarray:
    """The paddles of n images, (n, size, size) float32."""
    n, side = len(drawn), t.empty.taken.shape[1]
    canvas = np.zeros((n, side, side), np.float32)
    for snakes, shown, stamps in (
        (targets, np.ones((n, 2), bool), t.targets),
        (distractors, drawn, t.distractors),
    ):
        for snake in range(shown.shape[1]):
            rows = np.flatnonzero(shown[:, snake])
            for k in range(snakes.strokes.shape[2]):
                _stamp(canvas, stamps[snakes.strokes[rows, snake, k]], rows, snakes.centres[rows, snake, k], t.pad)
    return canvas[:, t.pad : t.pad + t.stimulus.size, t.pad : t.pad + t.stimulus.size]


def _mark(t: _Tables, values: np.ndarray, markers: np.ndarray) -> None:
    for canvas, tips in zip(values, markers.tolist(), strict=True):
        for row, column in tips:
            rows, columns, stamp = _marker(t.stimulus.size, t.stimulus.marker_radius, row, column)
            np.maximum(canvas[rows, columns], stamp, out=canvas[rows, columns])


@functools.cache
def _marker(size: int, radius: float, row: int, column: int) -> tuple[slice, slice, np.ndarray]:
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


_shrink = functools.lru_cache(raster.lanczos)


# Tables.


@functools.cache
def _tables(stimulus: Stimulus, margin: int) -> _Tables:
    size, length = stimulus.size, stimulus.length
    reach = length + margin  # of a head from its pivot
    degrees = np.radians(np.arange(-180, 180))
    samples = np.arange(math.ceil(2 * math.pi * reach)) / reach
    heads = np.unique(np.floor(reach * np.stack([np.sin(samples), np.cos(samples)], axis=1)), axis=0)
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
    window = np.ones((1, size, size), np.uint8)
    taken = np.pad(_border(window, 0, stimulus.padding), ((0, 0), (pad, pad), (pad, pad)))
    near = np.pad(_border(window, 0, stimulus.padding + margin), ((0, 0), (pad, pad), (pad, pad)), constant_values=FULL)
    return _Tables(
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
        near=raster.dilate(masks, margin),
        offsets=heads.astype(np.int64)[order],
        weights=np.take_along_axis(weights, order, axis=1),
        next=DEGREES + order,
        solid=solid,
        usable=usable & (extent > 0).all(axis=1),
        corner=corner,
        extent=extent,
        apart=np.round(stimulus.seed_distance * units[:DEGREES], 9),
        empty=_Masks(taken, near),
    )


def _border(window: np.ndarray, inside: int, width: int) -> np.ndarray:
    out = np.full_like(window, FULL)
    out[:, width : out.shape[1] - width, width : out.shape[2] - width] = inside
    return out


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
