"""The convolution as one Pallas kernel for a GPU: transform, product and inverse in one pass over memory.

A sequence of n = n₁ n₂ points is held as an n₁ × n₂ matrix, and its transform is two products with small Fourier
matrices and a twiddle between (Cooley & Tukey 1965; on matrix units Fu et al. 2023, arXiv:2311.05908):

    X[k₁ + n₁ k₂] = Σ_{j₂} ω_{n₂}^{j₂ k₂} · ω_n^{j₂ k₁} · Σ_{j₁} ω_{n₁}^{j₁ k₁} · x[n₂ j₁ + j₂]

in the order [k₁, k₂] in which the inverse takes it, so nothing is ever transposed. For a circular boundary two rows of
the batch are the real and the imaginary part of one sequence, which a real kernel keeps apart; otherwise each row is
twisted, as in `gconv.ops.spectral`.
x is read and y written in x's dtype, 16 bits as a rule; between, all is float32 but the operands of the products, which
are float16: with 11 bits where bfloat16 has 8, so that the result, beside the norms of x and kernel, is as near as
bfloat16's own rounding lets it. Its range would not do, so each row is divided by its largest magnitude and the
kernel's spectrum by its mean one. And 11 bits would be lost against a large mean, so each row's mean is taken off
first, and its exact answer, the mean times the kernel's running sum, added back; the kernel's gradient does so for x
and for dy. Of float32 x the products are float32, in the GPU's default precision, and must be shorter to fit.

A program takes several rows of one channel one after another. What it multiplies by stays in shared memory, at most 160
KiB of an H100's 227; its registers hold the rest, with as many warps as have rows to themselves. What a long
correlation sums over its rows would be too much for them and stays in memory.

It is plain Pallas with the parameters of its Triton backend, which jax 0.11 calls deprecated. Mosaic GPU, the backend
that JAX develops further, refuses `dot_general` on values (jax 0.10.2): it wants each matrix unit's operands placed by
hand, for one generation of GPUs. Before Triton's goes, this must be rewritten so, or be lowered by jax-triton; until
then it is the one that runs. Measured on an H100 (experiments/records/benchmark/h100: fused_by_length.md and, of an
earlier form, ops.md). Elsewhere it is interpreted, slowly.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from gconv.ops.spectral import Lags, Transform, kernel_from, kernel_spectrum, twist_table

Complex = tuple[jax.Array, jax.Array]  # real and imaginary part


def tables(length: int, lags: Lags, dtype: Any) -> list[np.ndarray]:
    """What `convolve` and `correlate` of x of a dtype multiply by.

    The twist of a kernel, as of `spectral.twist_table`. Then real and imaginary parts, (2, n₁, n₁), (2, n₂, n₂),
    (2, n₁, n₂) and, unless around a circle, (2, n₁, n₂): Fourier matrices of n₁ and n₂ over the roots of these,
    twiddles, and the twist of a row; in float16 for x of 16 bits, whose products are of that.
    """
    n1, n2 = _split(length)
    j1, j2 = np.arange(n1), np.arange(n2)
    parts = [np.exp(-2j * np.pi * np.outer(j, j) / len(j)) / np.sqrt(len(j)) for j in (j1, j2)]
    parts.append(np.exp(-2j * np.pi * np.outer(j1, j2) / length))
    if not lags.circular:
        parts.append(np.exp(-0.5j * np.pi * np.arange(length) / length).reshape(n1, n2))
    half = np.float16 if jnp.dtype(dtype).itemsize == 2 else np.float32
    twist = twist_table(_plan(length, lags)[0], jnp.float32)
    return [twist, *(np.stack([a.real, a.imag]).astype(half) for a in parts)]


def convolve(x: jax.Array, kernel: jax.Array, lags: Lags, twist: jax.Array, *tables: jax.Array) -> jax.Array:
    """As `spectral.convolve` on one device: x (batch, channels, length), kernel (channels, taps) float32 → like x."""
    batch, channels, length = x.shape
    if not batch:  # a GPU launches no kernel of no programs
        return x
    transform, rows = _plan(length, lags)
    x, (n1, n2), steps = _blocks(x, rows)
    (spectrum,) = kernel_spectrum(kernel, twist, transform, lags)
    spectrum = jnp.conj(spectrum) if lags.mirrored else spectrum
    spectrum = spectrum.reshape(channels, n2, n1).swapaxes(1, 2)
    largest = jnp.maximum(jnp.max(jnp.abs(spectrum), axis=(1, 2), keepdims=True), TINY)  # the square may be nothing
    # Part by part: a complex quotient squares its divisor, and a kernel of zeros has the smallest.
    parts = [part / largest for part in (spectrum.real, spectrum.imag)]
    size = jnp.sqrt(jnp.mean(sum(part**2 for part in parts), axis=(1, 2), keepdims=True))
    parts = [(part / jnp.maximum(size, TINY)).astype(tables[0].dtype) for part in parts]
    size = size * largest
    ones = _answer_to_ones(kernel, length, lags)
    ones = ones.reshape(channels, *((1, 1) if lags.circular else (n1, n2)))
    of_rows = pl.BlockSpec((steps * rows, 1, n1, n2), lambda c, b: (b, c, 0, 0))
    y = pl.pallas_call(
        functools.partial(_convolve_body, rows=rows),
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(channels, len(x) // (steps * rows)),
        in_specs=[
            of_rows,
            *(pl.BlockSpec((1, *a.shape[1:]), lambda c, b: (c, 0, 0)) for a in (*parts, size, ones)),
            *(pl.BlockSpec(a.shape, lambda c, b: (0, 0, 0)) for a in tables),
        ],
        out_specs=of_rows,
        interpret=jax.default_backend() != "gpu",
        compiler_params=triton.CompilerParams(num_warps=_warps(length), num_stages=1),
    )(x, *parts, size, ones, *tables)
    return y.reshape(-1, channels, length)[:batch]


def correlate(x: jax.Array, dy: jax.Array, lags: Lags, taps: int, twist: jax.Array, *tables: jax.Array) -> jax.Array:
    """As `spectral.correlate` on one device: x, dy (batch, channels, length) → (channels, taps) float32."""
    channels, length = x.shape[1:]
    if not len(x):
        return jnp.zeros((channels, taps), jnp.float32)
    transform, rows = _plan(length, lags)
    (x, (n1, n2), steps), (dy, _, _) = _blocks(x, rows), _blocks(dy, rows)
    parts = len(x) // (steps * rows)
    of_rows = pl.BlockSpec((steps * rows, 1, n1, n2), lambda c, b: (b, c, 0, 0))
    totals = jax.ShapeDtypeStruct((parts, channels, n1, n2), jnp.float32)
    means = jax.ShapeDtypeStruct((len(x), channels), jnp.float32)
    real, imaginary, x_means, dy_means = pl.pallas_call(
        functools.partial(_correlate_body, rows=rows),
        out_shape=[totals, totals, means, means],
        grid=(channels, parts),
        in_specs=[of_rows, of_rows, *(pl.BlockSpec(a.shape, lambda c, b: (0, 0, 0)) for a in tables)],
        out_specs=[
            *[pl.BlockSpec((1, 1, n1, n2), lambda c, b: (b, c, 0, 0))] * 2,
            *[pl.BlockSpec((steps * rows, 1), lambda c, b: (b, c))] * 2,
        ],
        interpret=jax.default_backend() != "gpu",
        compiler_params=triton.CompilerParams(num_warps=_warps(length), num_stages=1),
    )(x, dy, *tables)
    spectrum = jax.lax.complex(jnp.sum(real, axis=0), jnp.sum(imaginary, axis=0))
    spectrum = spectrum.swapaxes(1, 2).reshape(channels, length)
    spectrum = jnp.conj(spectrum) if lags.mirrored else spectrum
    found = kernel_from((spectrum,), twist, transform, lags, taps) * length
    if lags.circular:  # what the means of x and dy add to each tap
        return found + length * jnp.sum(x_means * dy_means, axis=0)[:, None]
    return found + _answer_of_means(x, dy, x_means, dy_means, lags, taps)


def _convolve_body(x, kernel_r, kernel_i, size, ones, *refs, rows):
    *tables, y = refs
    f1, f2 = _matrices(*tables[:2])

    def step(i: jax.Array, carry: int) -> int:
        t, *w = (_both(table) for table in tables[2:])
        values, means, sizes = _centred(x, i * rows, rows)
        values = [value * (1 / size) for value, size in zip(values, sizes, strict=True)]
        product = _times(_forward(values, f1, f2, t, *w), (kernel_r[0], kernel_i[0]))
        back = _conj(_matmul(f1, _times(_matmul(_conj(product), f2), t)))
        answers = [back[0] * w[0][0] + back[1] * w[0][1]] if w else back  # turned back, its real part
        for row, (answer, s, mean) in enumerate(zip(answers, sizes, means, strict=True)):
            y[i * rows + row, 0] = (answer * (s * size[0]) + mean * ones[0]).astype(y.dtype)
        return carry

    jax.lax.fori_loop(0, x.shape[0] // rows, step, 0)


def _correlate_body(x, dy, *refs, rows):
    *tables, real, imaginary, x_mean, dy_mean = refs
    f1, f2 = _matrices(*tables[:2])

    def add(i: jax.Array, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        (_, x_means, x_sizes), (_, dy_means, dy_sizes) = (_centred(ref, i * rows, rows) for ref in (x, dy))
        # Rows that are one sequence need one scale of the product. Each is made as large in x as in dy, so that what is
        # left over of one row's x times the other's dy, which should cancel, is small beside the largest product.
        roots = [(jnp.sqrt(of_x), jnp.sqrt(of_dy)) for of_x, of_dy in zip(x_sizes, dy_sizes, strict=True)]
        root = functools.reduce(jnp.maximum, [of_x * of_dy for of_x, of_dy in roots])

        # Registers are what there is too little of: each transform reads its rows and tables anew, from the cache. That
        # something is written between keeps the compiler from reading all at once.
        def transform(ref, mean, means: list[jax.Array], scales: list[jax.Array]) -> Complex:
            for row in range(rows):
                mean[i * rows + row, 0] = means[row]
            values = [ref[i * rows + row, 0].astype(jnp.float32) for row in range(rows)]
            values = [(value - m) * scale for value, m, scale in zip(values, means, scales, strict=True)]
            return _forward(values, f1, f2, *(_both(table) for table in tables[2:]))

        of_x = transform(x, x_mean, x_means, [of_dy / of_x / root for of_x, of_dy in roots])
        of_dy = transform(dy, dy_mean, dy_means, [of_x / of_dy / root for of_x, of_dy in roots])
        product = [part * root * root for part in _times(_conj(of_x), of_dy)]
        if totals:
            return tuple(total + part for total, part in zip(totals, product, strict=True))
        for ref, part in zip((real, imaginary), product, strict=True):
            ref[0, 0] = ref[0, 0] + part
        return ()

    zeros = jnp.zeros(real.shape[2:], jnp.float32)
    in_registers = zeros.size <= MOST_IN_REGISTERS
    if not in_registers:
        real[0, 0] = imaginary[0, 0] = zeros
    totals = jax.lax.fori_loop(0, x.shape[0] // rows, add, (zeros, zeros) if in_registers else ())
    if in_registers:
        real[0, 0], imaginary[0, 0] = totals


def _matrices(first, second) -> tuple[Complex, Complex]:
    """Kept in shared memory while a program lasts, one for both where they are the same."""
    f1 = _both(first)
    return f1, f1 if first.shape == second.shape else _both(second)


def _both(table) -> Complex:
    return table[0], table[1]


def _centred(x, first: jax.Array | int, rows: int) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
    """Rows less their means; those; and each row's largest magnitude, over which float16 holds what is made of it."""
    values = [x[first + row, 0].astype(jnp.float32) for row in range(rows)]
    means = [jnp.sum(value) / value.size for value in values]
    sizes = [jnp.maximum(jnp.max(jnp.abs(value)), TINY) for value in values]
    return [value - mean for value, mean in zip(values, means, strict=True)], means, sizes


TINY = 1e-24  # less than this is taken for it, whose square root cubed is a float32 still


def _forward(rows: list[jax.Array], f1: Complex, f2: Complex, t: Complex, w: Complex | None = None) -> Complex:
    """Two rows as one sequence, or one row twisted, (n₁, n₂) each → its transform over √n, [k₁, k₂]."""
    z = (rows[0], rows[1]) if w is None else (rows[0] * w[0], rows[0] * w[1])
    return _matmul(_times(_matmul(f1, z), t), f2)


def _times(a: Complex, b: Complex) -> Complex:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _matmul(a: Complex, b: Complex) -> Complex:
    """In float16 if one of the two is, a table; the sums in float32."""
    dtype = min(a[0].dtype, b[0].dtype, key=lambda dtype: dtype.itemsize)
    minus_ai, minus_bi = (-a[1], b[1]) if b[1].dtype == dtype else (a[1], -b[1])  # of a table there is no second copy
    ar, ai, br, bi, minus_ai, minus_bi = (part.astype(dtype) for part in (*a, *b, minus_ai, minus_bi))
    dot = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
    # Added, two products are summed where the first is; subtracted, they would take the room of both.
    return dot(ar, br) + dot(minus_ai, minus_bi), dot(ar, bi) + dot(ai, br)


def _conj(a: Complex) -> Complex:
    return a[0], -a[1]


def _plan(length: int, lags: Lags) -> tuple[Transform, int]:
    """The form of transform, and how many rows of the batch one takes."""
    return (Transform("complex", length), 2) if lags.circular else (Transform("twisted", length), 1)


MOST_IN_REGISTERS = 2048  # points of a correlation's totals; longer ones are added up in memory
PROGRAMS = 1024  # several for each of a large GPU's multiprocessors
MOST_STEPS = 8


def _blocks(x: jax.Array, rows: int) -> tuple[jax.Array, tuple[int, int], int]:
    """(batch, channels, length) → (batch filled up to whole blocks, channels, n₁, n₂), and the steps of a program.

    So that it reads the tables once for several transforms: as many, up to MOST_STEPS, as leave PROGRAMS programs.
    """
    batch, channels, length = x.shape
    n1, n2 = _split(length)
    blocks, steps = -(-batch // rows), 1
    while steps < MOST_STEPS and channels * blocks >= 2 * steps * PROGRAMS:
        steps *= 2
    x = jnp.pad(x, ((0, -batch % (rows * steps)), (0, 0), (0, 0)))
    return x.reshape(-1, channels, n1, n2), (n1, n2), steps


def _split(length: int) -> tuple[int, int]:
    n1 = 2 ** (length.bit_length() // 2)
    return n1, length // n1


def _warps(length: int) -> int:
    """A matrix unit's four take 64 rows of n₁, or of fewer 16 each; more would repeat each other's work."""
    return 1 if length <= 256 else 2 if length <= 1024 else 4 if length <= 4096 else 8


def _answer_to_ones(kernel: jax.Array, length: int, lags: Lags) -> jax.Array:
    """What the convolution makes of a sequence of ones: (channels, length), the sum of the taps that meet it.

    Around a circle they all do everywhere: (channels, 1).
    """
    if lags.circular:
        return jnp.sum(kernel, axis=1, keepdims=True)
    taps = kernel.shape[1]
    t = jnp.arange(length)
    if lags.mirrored:  # position t + lag(k) must lie inside
        first, last = -t - lags.first, length - 1 - t - lags.first
    else:  # position t − lag(k)
        first, last = t - (length - 1) - lags.first, t - lags.first
    return _sums_within(kernel, jnp.clip(first, 0, taps), jnp.clip(last + 1, 0, taps))


def _answer_of_means(
    x: jax.Array, dy: jax.Array, x_means: jax.Array, dy_means: jax.Array, lags: Lags, taps: int
) -> jax.Array:
    """What the means of x and dy add to each tap's gradient where there is no circle: (channels, taps).

    x and dy are (batch, channels, n₁, n₂), their means (batch, channels).
    """
    batch, channels, *sizes = x.shape
    length = math.prod(sizes)
    x, dy = (a.reshape(batch, channels, length).astype(jnp.float32) for a in (x, dy))
    by_x = jnp.sum(x_means[..., None] * dy, axis=0)
    by_dy = jnp.sum(dy_means[..., None] * (x - x_means[..., None]), axis=0)
    lag = (lags.first + jnp.arange(taps)) * (-1 if lags.mirrored else 1)  # dy's position less x's
    of_dy = _sums_within(by_x, jnp.maximum(0, lag), jnp.minimum(length, length + lag))
    return of_dy + _sums_within(by_dy, jnp.maximum(0, -lag), jnp.minimum(length, length - lag))


def _sums_within(values: jax.Array, first: jax.Array, end: jax.Array) -> jax.Array:
    """Σ values[:, first:end], a column for each of the bounds."""
    sums = jnp.pad(jnp.cumsum(values, axis=1), ((0, 0), (1, 0)))
    return sums[:, end] - sums[:, first]
