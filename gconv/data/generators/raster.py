"""Lines, dilation and Lanczos resampling on 8-bit canvases, in integers wherever rounding decides a pixel.

The values are those of Pillow 13's `ImageDraw.line` and `Image.resize`, which the tests compare with. They are computed
here so that the same seed gives the same bytes with any version of any library. Points are (row, column).
"""

import math

import numpy as np

_FRACTION_BITS = 22  # of the fixed-point resampling weights


def line(side: int, end: tuple[int, int], width: int) -> np.ndarray:
    """A segment from the centre pixel of a square canvas to centre + end, both included.

    Returns (side, side) uint8 in {0, 255}. Width 1 is Bresenham's line, a wider one a filled quadrilateral.
    """
    canvas = np.zeros((side, side), np.uint8)
    centre = side // 2
    if width == 1 or end == (0, 0):
        steps = max(abs(end[0]), abs(end[1]))
        for i in range(steps + 1):
            row, column = (int(math.copysign((2 * i * abs(d) + steps) // (2 * max(steps, 1)), d)) for d in end)
            canvas[centre + row, centre + column] = 255
        return canvas
    corners = _quadrilateral(end, width)
    sides = list(zip(corners, corners[1:] + corners[:1], strict=True))
    for row in range(min(y for y, _ in corners), max(y for y, _ in corners) + 1):
        crossings: list[float] = []
        for (y0, x0), (y1, x1) in sides:
            if min(y0, y1) <= row <= max(y0, y1):
                crossings += [x0, x1] if y0 == y1 else [x0 + (row - y0) * (x1 - x0) / (y1 - y0)]
        first, last = math.floor(centre + min(crossings) + 0.5), math.ceil(centre + max(crossings) - 0.5)
        canvas[centre + row, first : last + 1] = 255
    return canvas


def _quadrilateral(end: tuple[int, int], width: int) -> list[tuple[int, int]]:
    """Corners of a segment from the origin that is `width` pixels wide; an even width lies off to one side."""

    def away(x: float) -> int:  # halves are rounded away from zero
        return int(math.copysign(math.floor(abs(x) + 0.5), x))

    def towards(x: float) -> int:
        return int(math.copysign(math.ceil(abs(x) - 0.5), x))

    rows, columns = end
    length, half = math.sqrt(rows * rows + columns * columns), (width - 1) / 2
    near, far = towards(half) / length, away(half) / length
    one = (away(far * columns), -towards(near * rows))
    other = (-away(near * columns), towards(far * rows))
    return [one, (rows + one[0], columns + one[1]), (rows + other[0], columns + other[1]), other]


def disc(radius: int) -> np.ndarray:
    """Integer offsets (n, 2) with row² + column² ≤ radius²."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.argwhere(rows**2 + columns**2 <= radius**2) - radius


def dilate(images: np.ndarray, radius: int) -> np.ndarray:
    """Grey dilation by a disc: images (n, h, w) uint8 → (n, h + 2·radius, w + 2·radius)."""
    height, width = images.shape[1:]
    out = np.zeros((len(images), height + 2 * radius, width + 2 * radius), np.uint8)
    for row, column in disc(radius) + radius:
        window = out[:, row : row + height, column : column + width]
        np.maximum(window, images, out=window)
    return out


def lanczos(size: int, new: int) -> np.ndarray:
    """Weights (new, size) int64, in units of 2^-22, that shrink `size` samples to `new` by Lanczos's filter (a = 3).

    The filter is widened by the ratio of sizes; at the ends it is cut off and its weights are scaled to sum to one.
    """
    ratio = size / new
    weights = np.zeros((new, size), np.int64)
    for i in range(new):
        centre = (i + 0.5) * ratio
        first, last = max(0, int(centre - 3 * ratio + 0.5)), min(size, int(centre + 3 * ratio + 0.5))
        x = (np.arange(first, last) + 0.5 - centre) / ratio
        values = np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0)
        weights[i, first:last] = np.rint(values / values.sum() * 2**_FRACTION_BITS)
    return weights


def resample(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Applies `lanczos` weights (r, h) and (c, w) to images (..., h, w) uint8; returns (..., r, c) uint8.

    As is usual for 8-bit images, the horizontal pass is rounded and clipped to 0..255 before the vertical one.
    """
    narrow = _round(images.astype(np.int64) @ columns.T)
    return _round(rows @ narrow).astype(np.uint8)


def _round(sums: np.ndarray) -> np.ndarray:
    return np.clip((sums + (1 << (_FRACTION_BITS - 1))) >> _FRACTION_BITS, 0, 255)
