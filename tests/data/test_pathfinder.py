import functools
import hashlib
import math

import numpy as np
import pytest
from scipy import ndimage, stats

from gconv.data.generators import pathfinder, raster
from gconv.data.generators.pathfinder import STIMULI, draw, generate

SEED = 7


@pytest.fixture(scope="module")
def small():
    return draw(STIMULI[32], SEED, 0, 2000)


@pytest.fixture(scope="module")
def large():
    return draw(STIMULI[128], SEED, 0, 100)


# A slow and obvious second implementation, one image at a time: Pillow draws, and nothing is tabulated but stamps.
# Only the random numbers are shared.


def resize(array, size):
    from PIL import Image

    return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.LANCZOS))


@functools.cache
def stamp(stimulus, angle, dilation):
    from PIL import Image, ImageDraw

    half = stimulus.length + math.ceil(stimulus.thickness) + dilation[0]
    image = Image.new("L", (4 * half + 1, 4 * half + 1))
    (row, column), centre = step((2 * half, 2 * half), angle, 2 * stimulus.length), 2 * half
    width = round(2 * stimulus.thickness)
    ImageDraw.Draw(image).line([(centre, centre), (column, row)], fill=255, width=width)
    large = np.asarray(image)
    if dilation[1]:
        y, x = np.mgrid[-2 * dilation[0] : 2 * dilation[0] + 1, -2 * dilation[0] : 2 * dilation[0] + 1]
        large = ndimage.grey_dilation(large, footprint=y**2 + x**2 <= 4 * dilation[0] ** 2, mode="constant")
    return resize(large, 2 * half + 1).astype(int)


@functools.cache
def dot(stimulus, row, column):
    y, x = np.mgrid[: 2 * stimulus.size, : 2 * stimulus.size]
    filled = (y - 2 * row) ** 2 + (x - 2 * column) ** 2 <= (2 * stimulus.marker_radius) ** 2
    return resize(filled.astype(np.uint8) * 255, stimulus.size) / 255


def step(point, angle, distance):
    return math.ceil(point[0] + distance * math.sin(angle)), math.ceil(point[1] + distance * math.cos(angle))


def paste(canvas, image, centre, how):
    """Replaces canvas by how(canvas, image) around centre, where they overlap."""
    half = len(image) // 2
    low = [max(0, p - half) for p in centre]
    rows, columns = (slice(a, max(a, min(len(canvas), p + half + 1))) for a, p in zip(low, centre, strict=True))
    top, left = (a - p + half for a, p in zip(low, centre, strict=True))
    part = canvas[rows, columns]
    canvas[rows, columns] = how(part, image[top : top + part.shape[0], left : left + part.shape[1]])


class Failed(Exception):
    pass


class Slow:
    """Image `index` of a seed: `attempts`, `targets` and `distractors`, lists of (stamped at, drawn at angle, head)."""

    def __init__(self, stimulus, seed, index):
        self.s, self.key = stimulus, pathfinder._hash(np.array([seed], np.uint64), index)
        self.margin = stimulus.margins[self.below((0, 1), len(stimulus.margins))]
        self.reach = stimulus.length + self.margin
        self.attempts = 0
        while True:
            self.attempts += 1
            try:
                self.mask = np.full((stimulus.size, stimulus.size), 255)
                self.mask[(slice(stimulus.padding, -stimulus.padding),) * 2] = 0
                self.targets = self.grow(self.seeds((1, self.attempts - 1)), stimulus.paddles, (1, self.attempts - 1))
                break
            except Failed:
                pass
        self.distractors = []
        for number in range(5 * stimulus.distractors):
            if number % 5 == 0 or not found:
                before, found = self.mask.copy(), False
                try:
                    seed = [self.free_seed((2, number))]
                    self.distractors += self.grow(seed, stimulus.distractor_paddles, (2, number))
                    found = True
                except Failed:
                    self.mask = before

    def bits(self, place):
        return pathfinder._hash(self.key, *place)

    def below(self, place, bound):
        return int(pathfinder._below(self.bits(place), bound)[0])

    def stamped(self, at, angle):
        return at, stamp(self.s, angle, (self.margin, True))

    def free(self, degree, busy):
        """Pixels where a first paddle may have its tail; none if a corner of the window sees no pixel of it."""
        half, canvas = self.reach, np.zeros((2 * self.reach + 1, 2 * self.reach + 1), int)
        paste(canvas, stamp(self.s, math.radians(degree), (self.margin, True)), (half + 1, half + 1), np.maximum)
        solid = np.argwhere(canvas == 255) - half
        found = np.full((2, *busy.shape), -np.inf)
        padded = np.pad(busy.astype(float), half, constant_values=-np.inf)
        for y, x in solid + half:
            np.maximum(found, padded[y : y + len(busy), x : x + len(busy)], out=found)
        return np.argwhere(found[0] <= 0.3 * 255) if np.isfinite(found).all() else []

    def seeds(self, place):
        degree = self.below((*place, 0), 360) - 180
        busy = np.full_like(self.mask, 255)
        inside = (slice(2 * self.s.seed_distance, self.s.size - 2 * self.s.seed_distance),) * 2
        busy[inside] = self.mask[inside]
        places = self.free(degree, busy)
        if len(places) == 0:
            raise Failed
        first = places[self.below((*place, 1), len(places))]
        other, direction = (math.radians(self.below((*place, i), 360) - 180) for i in (2, 3))
        offset = np.array([math.sin(direction), math.cos(direction)]) * self.s.seed_distance
        second = np.round(first + offset).astype(int)
        return [(tuple(first.tolist()), math.radians(degree)), (tuple(second.tolist()), other)]

    def free_seed(self, place):
        for i in range(3):
            degree = self.below((*place, 2 * i), 360) - 180
            busy = self.mask.copy()
            busy[[0, -1]] = busy[:, [0, -1]] = 255
            places = self.free(degree, busy)
            if len(places) == 0 or (self.mask <= 0.3 * 255).mean() < 0.01:
                raise Failed
            tail = tuple(places[self.below((*place, 2 * i + 1), len(places))].tolist())
            head = step(tail, math.radians(degree), self.s.length)
            pivot = step(head, math.radians(degree), -self.reach)
            if all(0 <= p < self.s.size for p in (*head, *pivot)):
                return tail, math.radians(degree)
        raise Failed

    def grow(self, seeds, paddles, place):
        snakes, pivots = [], []
        for tail, angle in seeds:
            head = step(tail, angle, self.s.length)
            snakes.append([(tail, angle, angle, head)])
            pivots.append(step(head, angle, -self.reach))
        for k in range(1, paddles):
            for number, snake in enumerate(snakes):
                at, drawn, angle, _ = snake[-1]
                pivots[number] = step(pivots[number], angle, self.s.length + 2 * self.margin)
                draws = 16 + 3 * (len(snakes) * k + number)
                snake.append(self.extend(pivots[number], angle, [(*place, draws + i) for i in range(3)]))
                paste(self.mask, self.stamped(at, drawn)[1], at, np.maximum)
        at, drawn, _, _ = snakes[-1][-1]
        paste(self.mask, self.stamped(at, drawn)[1], at, np.maximum)
        return snakes

    def extend(self, pivot, angle, places):
        options = sorted(
            {
                (math.floor(self.reach * math.sin(k / self.reach)), math.floor(self.reach * math.cos(k / self.reach)))
                for k in range(1000)
                if k / self.reach < 2 * math.pi
            }
        )
        weights = []
        for y, x in options:
            row, column = pivot[0] + y, pivot[1] + x
            turn = abs(math.remainder(math.atan2(y, x) - angle, 2 * math.pi))
            weight = round(2**20 * math.cos(min(self.s.continuity * turn, math.pi / 2)) ** 2)
            if weight == 0 or not (0 <= row < self.s.size and 0 <= column < self.s.size):
                weights.append(0)
                continue
            weights.append(weight * (255 - self.nearby(row, column)))
        if sum(weights) / 2**20 / 255 < 1e-4:
            raise Failed
        for place in places:
            point = (int(self.bits(place)[0]) >> 34) * sum(weights) >> 30
            y, x = options[np.searchsorted(np.cumsum(weights), point, side="right")]
            head, angle = (pivot[0] + y, pivot[1] + x), math.atan2(y, x)
            crowded = self.mask.copy()
            drawn = angle - math.pi
            paste(crowded, self.stamped(head, drawn)[1], head, np.add)
            if crowded.max() < 459:
                return head, drawn, angle, head
        raise Failed

    def nearby(self, row, column):
        m = self.margin
        window = self.mask[max(0, row - m) : row + m + 1, max(0, column - m) : column + m + 1]
        y, x = np.ogrid[: window.shape[0], : window.shape[1]]
        return window[(y - min(row, m)) ** 2 + (x - min(column, m)) ** 2 <= m * m].max()


@pytest.mark.parametrize("size, count", [(32, 12), (64, 1), (128, 2)])
def test_a_slow_second_implementation_grows_the_same_snakes(size, count, small, large):
    pytest.importorskip("PIL")
    scenes = {32: small, 128: large}.get(size) or draw(STIMULI[size], SEED, 0, 32)
    for i in np.argsort(scenes.attempts, kind="stable")[:count] if size > 32 else range(count):
        slow = Slow(STIMULI[size], SEED, int(i))
        assert slow.attempts == scenes.attempts[i] and slow.margin == scenes.margins[i]
        heads, angles = (np.array([[paddle[j] for paddle in snake] for snake in slow.targets]) for j in (3, 2))
        np.testing.assert_array_equal(scenes.heads[i], heads)
        np.testing.assert_allclose(scenes.angles[i], angles, atol=1e-12)
        assert len(slow.distractors) == scenes.drawn[i].sum()
        for snake, found in zip(slow.distractors, scenes.distractor_heads[i][scenes.drawn[i]], strict=True):
            np.testing.assert_array_equal(found, [paddle[3] for paddle in snake])


def paint(stimulus, scenes, i):
    """Layers of image i, painted by Pillow from its geometry: both targets, distractors, markers."""
    layers = np.zeros((4, stimulus.size, stimulus.size))
    margin = (int(scenes.margins[i]), False)

    def snake(layer, tip, heads, angles, contrast):
        places = [(tip, angles[0]), *((head, angle - np.pi) for head, angle in zip(heads[1:], angles[1:], strict=True))]
        for place, angle in places:
            paste(layer, stamp(stimulus, float(angle), margin) / 255 * contrast, place.tolist(), np.maximum)

    for layer, *geometry in zip(layers, scenes.tips[i], scenes.heads[i], scenes.angles[i], strict=False):
        snake(layer, *geometry, stimulus.target_contrast)
    short = (scenes.distractor_tips[i], scenes.distractor_heads[i], scenes.distractor_angles[i])
    for geometry in zip(*(part[scenes.drawn[i]] for part in short), strict=True):
        snake(layers[2], *geometry, stimulus.distractor_contrast)
    for row, column in scenes.markers[i].tolist():
        layers[3] = np.maximum(layers[3], dot(stimulus, row, column))
    return layers


@pytest.mark.parametrize("size, count", [(32, 200), (64, 4), (128, 30), (256, 4)])
def test_images_are_what_pillow_paints_from_the_geometry(size, count, small, large):
    pytest.importorskip("PIL")
    scenes = {32: small, 128: large}.get(size) or draw(STIMULI[size], SEED, 0, count)
    for i in range(count):
        values = paint(STIMULI[size], scenes, i).max(axis=0)
        assert values.min() == 0 and scenes.peaks[i] == pytest.approx(values.max())
        np.testing.assert_array_equal(scenes.images[i], np.floor(255 * values / values.max() + 0.5 + 1e-9))
