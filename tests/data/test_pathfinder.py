import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from experiments import stimulus as stimulus_table
from gconv.data.generators import paddles, pathfinder, raster
from gconv.data.generators.pathfinder import SHORT, STIMULI, draw, generate

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
        for snake in range(stimulus.distractors):
            for place in ((2, 5 * snake + attempt) for attempt in range(5)):
                before = self.mask.copy()
                try:
                    self.distractors += self.grow([self.free_seed(place)], stimulus.distractor_paddles, place)
                    break
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


@pytest.mark.parametrize(
    "stimulus, count",
    [(STIMULI[32], 12), (SHORT, 24), (STIMULI[64], 1), (STIMULI[128], 12)],
    ids=[32, "short", 64, 128],
)
def test_a_slow_second_implementation_grows_the_same_snakes(stimulus, count, small, large):
    pytest.importorskip("PIL")
    scenes = {STIMULI[32]: small, STIMULI[128]: large}.get(stimulus) or draw(stimulus, SEED, 0, 32)
    for i in np.argsort(scenes.attempts, kind="stable")[:count] if stimulus.size > 32 else range(count):
        slow = Slow(stimulus, SEED, int(i))
        assert slow.attempts == scenes.attempts[i] and slow.margin == scenes.margins[i]
        heads, angles = (np.array([[paddle[j] for paddle in snake] for snake in slow.targets]) for j in (3, 2))
        np.testing.assert_array_equal(scenes.heads[i], heads)
        np.testing.assert_allclose(scenes.angles[i], angles, atol=1e-12)
        assert len(slow.distractors) == scenes.drawn[i].sum()
        for snake, found in zip(slow.distractors, scenes.distractor_heads[i][scenes.drawn[i]], strict=True):
            np.testing.assert_array_equal(found, [paddle[3] for paddle in snake])


def paint(stimulus, scenes, i):
    """Layers of image i, painted by Pillow from its geometry: both targets, distractors, markers."""
    layers = np.zeros((4, stimulus.size, stimulus.size), np.float32)
    margin = (int(scenes.margins[i]), False)

    def snake(layer, tip, heads, angles, contrast):
        places = [(tip, angles[0]), *((head, angle - np.pi) for head, angle in zip(heads[1:], angles[1:], strict=True))]
        for place, angle in places:
            image = (stamp(stimulus, float(angle), margin) / 255 * contrast).astype(np.float32)
            paste(layer, image, place.tolist(), np.maximum)

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
        np.testing.assert_array_equal(scenes.images[i], np.floor(255.0 * values.astype(float) / values.max() + 0.5))


def label_from_geometry(scenes, i):
    """Follows the contour from the first marker, paddle by paddle; None if both targets end at the same place."""
    start, end = scenes.markers[i]
    ends = scenes.heads[i, :, -1]
    if (ends[0] == ends[1]).all():
        return None
    (snake,) = np.flatnonzero((scenes.tips[i] == start).all(axis=1))
    here = start
    for head, angle in zip(scenes.heads[i, snake], scenes.angles[i, snake], strict=True):
        tail = head - STIMULI[len(scenes.images[i])].length * np.array([math.sin(angle), math.cos(angle)])
        row, column = head
        assert np.hypot(*(tail - here)) <= 2 * scenes.margins[i] + 3
        assert scenes.images[i][row - 1 : row + 2, column - 1 : column + 2].max() > 64
        here = head
    assert any((end == other).all() for other in ends)
    return int((here == end).all())


def test_labels_are_what_following_the_contour_finds(small, large):
    for scenes in (small, large, draw(SHORT, SEED, 0, 500)):
        found = [label_from_geometry(scenes, i) for i in range(len(scenes.labels))]
        known = np.array([label is not None for label in found])
        assert known.mean() > 0.98
        np.testing.assert_array_equal(scenes.labels[known], np.array(found)[known].astype(int))


def test_short_contours_and_what_the_distance_of_their_markers_gives_away():
    scenes = draw(SHORT, SEED, 0, 6000)
    assert scenes.heads.shape[1:] == (2, 6, 2) and scenes.distractor_heads.shape[1:] == (10, 2, 2)
    assert scenes.labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / 6000**0.5)
    distance = np.hypot(*(scenes.markers[:, 0] - scenes.markers[:, 1]).T).astype(int)
    shown, told = scenes.labels[:3000], np.zeros(distance.max() + 1)
    for far in range(len(told)):  # what half of the images say of the others
        told[far] = shown[distance[:3000] == far].mean() if far in distance[:3000] else 0.5
    assert ((told[distance[3000:]] > 0.5) == scenes.labels[3000:]).mean() == pytest.approx(0.59, abs=0.02)


def test_there_may_be_no_distractors():
    scenes = draw(STIMULI[32]._replace(distractors=0), SEED, 0, 20)
    assert scenes.drawn.shape == (20, 0) and scenes.distractor_heads.shape == (20, 0, 4, 2)
    assert (scenes.peaks == 1).all()


def test_classes_are_balanced_and_no_image_comes_twice(small):
    assert small.labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / len(small.labels) ** 0.5)
    assert len({image.tobytes() for image in small.images}) == len(small.images)


def test_an_image_depends_on_its_seed_and_index_alone(small, large, monkeypatch):
    monkeypatch.setattr(pathfinder, "CHUNK_PIXELS", 64 * 32**2)
    together = list(generate(STIMULI[32], SEED, 100, 300, workers=2))
    assert len(together) == 200
    for i, example in enumerate(together, 100):
        np.testing.assert_array_equal(example.image, small.images[i])
        assert example.label == small.labels[i] and example.image.dtype == np.uint8
    for scenes, i in ((small, 1234), (large, 56)):
        (example,) = generate(STIMULI[scenes.images.shape[1]], SEED, i, i + 1)
        np.testing.assert_array_equal(example.image, scenes.images[i])
    assert list(generate(STIMULI[32], SEED, 5, 5)) == []
    assert (draw(STIMULI[32], SEED + 1, 0, 20).images != small.images[:20]).any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    "stimulus, count, digest",
    [
        (STIMULI[32], 16, "3df586432299ba4d"),
        (SHORT, 16, "b07bef53c1b4fee7"),
        (STIMULI[64], 2, "71d24e020ca34881"),
        (STIMULI[128], 4, "7aeeadb7773f22bc"),
        (STIMULI[256], 4, "63c47edfd7ebbd82"),
    ],
    ids=[32, "short", 64, 128, 256],
)
def test_a_seed_gives_the_same_bytes_on_every_machine(stimulus, count, digest):
    content = hashlib.sha256()
    for example in generate(stimulus, 0, 0, count):
        content.update(example.image.tobytes() + bytes([example.label]))
    assert content.hexdigest()[:16] == digest


@pytest.mark.parametrize("size", STIMULI)
def test_the_last_bits_of_sines_decide_nothing(size, monkeypatch):
    exact = [paddles.tables(STIMULI[size], margin) for margin in STIMULI[size].margins]
    noise = np.random.default_rng(0)
    for name in ("sin", "cos"):
        function = getattr(np, name)
        monkeypatch.setattr(np, name, lambda x, f=function: f(x) * (1 + noise.integers(-2, 3, np.shape(x)) * 2.0**-52))
    for tables in exact:
        noisy = paddles.tables.__wrapped__(*tables[:2])
        for name in {*tables._fields} - {"stimulus", "margin", "pad", "solid"}:
            np.testing.assert_allclose(getattr(noisy, name), getattr(tables, name), rtol=1e-15, err_msg=name)
        assert all(np.array_equal(*pixels) for pixels in zip(noisy.solid, tables.solid, strict=True))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_lines_are_pillows(width):
    image, draw = (pytest.importorskip(f"PIL.{name}") for name in ("Image", "ImageDraw"))
    for row in range(-11, 12):
        for column in range(-11, 12):
            canvas = image.new("L", (33, 33))
            draw.Draw(canvas).line([(16, 16), (16 + column, 16 + row)], fill=255, width=width)
            np.testing.assert_array_equal(raster.line(33, (row, column), width), canvas)


@pytest.mark.parametrize("size, new", [(17, 9), (41, 21), (64, 32), (256, 128)])
def test_resampling_is_pillows(size, new):
    pytest.importorskip("PIL")
    image = np.random.default_rng(0).integers(0, 256, (size, size), np.uint8)
    weights = raster.lanczos(size, new)
    np.testing.assert_array_equal(raster.resample(image, weights, weights), resize(image, new))


# What follows was read off the reference generator, angle by angle.


@pytest.mark.parametrize(
    "size, margin, unusable",
    [
        (32, 1, [*range(-180, -150), *range(-120, 180)]),
        (64, 1, [-135, *range(-84, 180)]),
        (128, 2, range(-59, -53)),
        (128, 3, []),
        (256, 3, []),
    ],
)
def test_a_first_paddle_points_where_the_reference_lets_it(size, margin, unusable):
    usable = paddles.tables(STIMULI[size], margin).usable
    np.testing.assert_array_equal(np.flatnonzero(~usable) - 180, list(unusable))


def test_the_first_target_starts_where_the_reference_lets_it(small):
    tables = paddles.tables(STIMULI[32], 1)
    for low, high, corner, extent in ((-150, -139, (14, 15), (3, 2)), (-138, -121, (14, 14), (3, 3))):
        assert (tables.corner[low + 180 : high + 181] == corner).all()
        assert (tables.extent[low + 180 : high + 181] == extent).all()
    assert (small.tips[:, 0] >= 14).all() and (small.tips[:, 0] <= 16).all()


@pytest.mark.parametrize(
    "size, margin, values, mean",
    [
        (32, 1, [101, 107, 111, 113, 117, 118, 121, 133, 135, 136, 147, 153], 119),
        (64, 1, (127, 255), 209),
        (128, 2, (208, 255), 247),
        (128, 3, (208, 255), 247),
        (256, 3, (220, 255), 254),
    ],
)
def test_paddles_are_as_bright_as_the_references(size, margin, values, mean):
    peaks = paddles.tables(STIMULI[size], margin).paddles.max(axis=(1, 2))
    assert peaks.mean() == pytest.approx(mean, abs=0.6)
    if isinstance(values, list):
        assert np.unique(peaks).tolist() == values
    else:
        assert peaks.min() in (values[0], values[0] + 1) and peaks.max() == values[1]


def test_a_marker_is_the_references():
    rows, columns, values = paddles.marker(32, 1.5, 15, 20)
    values = values[13 - rows.start : 17 - rows.start, 18 - columns.start : 23 - columns.start] * 255
    assert values.round().astype(int).tolist() == [
        [0, 28, 65, 3, 1],
        [28, 228, 254, 133, 2],
        [66, 255, 255, 190, 6],
        [0, 132, 178, 55, 1],
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"thickness": 0.7}, "thickness 0.7: expected a multiple of 1/2"),
        ({"margins": ()}, r"margins \(\): expected one or more"),
        ({"seed_distance": 5}, "seed_distance 5: expected at least length \\+ margin \\+ 3 = 6"),
        ({"seed_distance": 8}, "size 32: too small for length 2 and seed_distance 8"),
        ({"distractor_contrast": 0.0}, "contrasts 1.5, 0.0: expected above 0"),
        ({"paddles": 1}, "paddles 1, "),
        ({"continuity": 0.0}, "continuity 0.0: "),
        ({"marker_radius": 0.0}, "marker_radius 0.0: "),
        ({"padding": 0}, "padding 0, "),
        ({"paddles": 100}, "1000 pairs of targets failed: "),
    ],
)
def test_a_bad_stimulus_is_named(change, message, monkeypatch):
    monkeypatch.setattr(pathfinder, "MAX_ATTEMPTS", 1000)
    with pytest.raises(ValueError, match=message) as caught:
        list(generate(STIMULI[32]._replace(**change), SEED, 0, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1, 0, 1), "seed -1: expected"),
        ((0, 3, 2), "start 3, stop 2: expected"),
        ((0, -1, 2), "start -1, stop 2: expected"),
        ((0, 0, 1, 0), "workers 0: expected"),
    ],
)
def test_a_bad_range_is_named_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(STIMULI[32], *arguments)


def statistics(stimulus, scenes):
    """Those of the published table, and three that need the layers of an image."""
    found = stimulus_table.statistics(stimulus, scenes)
    layered = {name: np.full(len(scenes.labels), np.nan) for name in stimulus_table.LAYERED}
    for i in range(len(scenes.labels)):
        one, other, short, _ = 255 * paint(stimulus, scenes, i) / scenes.peaks[i]
        layered["targets overlap"][i] = ((one > one.max() / 2) & (other > other.max() / 2)).any()
        targets = np.maximum(one, other)
        layered["target pixels"][i] = targets[targets > 32].mean()
        if (short > 32).any():
            layered["distractor pixels"][i] = short[short > 32].mean()
    return found | layered


@pytest.mark.parametrize("size", [32, 128])
def test_statistics_are_the_references(size, small, large):
    pytest.importorskip("PIL")
    scenes = small if size == 32 else large
    rows = stimulus_table.compare(size, statistics(STIMULI[size], scenes))
    assert {row.name for row in rows} == {"share of label 1", *stimulus_table.REFERENCE[size]}
    for row in rows:
        assert row.error < 1, f"{row.name}: {row.mean}, reference {row.reference}"
    bins = np.bincount(scenes.images.ravel() // 16, minlength=16) / scenes.images.size
    reference = np.array(stimulus_table.HISTOGRAM[size].split(), float)
    spread = np.stack([np.bincount(image.ravel() // 16, minlength=16) / image.size for image in scenes.images]).std(0)
    allowed = 4 * spread * math.sqrt(1 / len(scenes.labels) + 1 / stimulus_table.REFERENCE_IMAGES[size]) + 0.00005
    assert (np.abs(bins - reference) < allowed).all()


def test_the_published_table_is_that_of_its_record():
    folder = Path(__file__).parents[2] / "experiments/records/stimulus"
    record = json.loads((folder / "stimulus.json").read_text())
    rows = {int(size): [stimulus_table.Row(*row) for row in rows] for size, rows in record["rows"].items()}
    assert stimulus_table.table(rows, record["images"]) == (folder / "stimulus.md").read_text()
    assert all(row.error < 1 for found in rows.values() for row in found)
