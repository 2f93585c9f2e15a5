"""The convolution as one Pallas kernel for a GPU: transform, product and inverse in one pass over memory.

A sequence of n = n₁ n₂ points is held as an n₁ × n₂ matrix, and its transform is two products with small Fourier
matrices and a twiddle between (Cooley & Tukey 1965; on matrix units Fu et al. 2023, arXiv:2311.05908):

    X[k₁ + n₁ k₂] = Σ_{j₂} ω_{n₂}^{j₂ k₂} · ω_n^{j₂ k₁} · Σ_{j₁} ω_{n₁}^{j₁ k₁} · x[n₂ j₁ + j₂]

in the order [k₁, k₂] in which the inverse takes it, so nothing is ever transposed. For a circular boundary two rows of
the batch are the real and the imaginary part of one sequence, which a real kernel keeps apart; otherwise each row is
twisted, as in `gconv.ops.spectral`.
x is read and y written in x's dtype; between, all is float32, the products in the GPU's default precision. That loses
digits against a large mean, so each row's mean is taken off first, and its exact answer, the mean times the kernel's
running sum, added back; the kernel's gradient does so for x and for dy.

It is plain Pallas with the parameters of its Triton backend, which lowers it for CUDA on any machine. Mosaic GPU, the
backend that JAX develops further, refuses `dot_general` on values (jax 0.10.2): it wants each matrix unit's operands
placed by hand, for one generation of GPUs. Where that changes, the parameters are all that must. Its speed has not been
measured, so `method="auto"` doesn't choose it. On other machines it is interpreted, slowly.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from gconv.ops.spectral import Lags, Transform, kernel_from, kernel_spectrum, twist_table

SHORTEST, LONGEST = 256, 16384  # 16 × 16 is the least that matrix units take, 128 × 128 what shared memory holds

Complex = tuple[jax.Array, jax.Array]  # real and imaginary part


def supports(length: int) -> bool:
    return SHORTEST <= length <= LONGEST and length & (length - 1) == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, lags: Lags, interpret: bool) -> jax.Array:
    """As `spectral.convolve`: x (batch, channels, length), floating; kernel (channels, taps) float32 → like x.

    The length must be a power of two from 256 to 16384.
    """
    return _convolve(x, kernel, lags, interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def correlate(x: jax.Array, dy: jax.Array, lags: Lags, taps: int, interpret: bool) -> jax.Array:
    """As `spectral.correlate`: x, dy (batch, channels, length) → (channels, taps) float32."""
    return _correlate(x, dy, lags, taps, interpret)


def _convolve_bwd(lags: Lags, interpret: bool, saved: tuple, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return convolve(dy, kernel, lags.mirror(), interpret), correlate(x, dy, lags, kernel.shape[1], interpret)


def _correlate_bwd(lags: Lags, taps: int, interpret: bool, saved: tuple, dr: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, dy = saved
    return convolve(dy, dr, lags.mirror(), interpret), convolve(x, dr, lags, interpret)


convolve.defvjp(lambda x, kernel, lags, interpret: (convolve(x, kernel, lags, interpret), (x, kernel)), _convolve_bwd)
correlate.defvjp(
    lambda x, dy, lags, taps, interpret: (correlate(x, dy, lags, taps, interpret), (x, dy)), _correlate_bwd
)


def _convolve(x: jax.Array, kernel: jax.Array, lags: Lags, interpret: bool) -> jax.Array:
    batch, channels, length = x.shape
    transform, rows = _plan(length, lags)
    x, (n1, n2) = _blocks(x, rows)
    (spectrum,) = kernel_spectrum(kernel, jnp.asarray(twist_table(transform, jnp.float32)), transform, lags)
    spectrum = jnp.conj(spectrum) if lags.mirrored else spectrum
    spectrum = spectrum.reshape(channels, n2, n1).swapaxes(1, 2)
    ones = _answer_to_ones(kernel, length, lags).reshape(channels, n1, n2)
    of_rows = pl.BlockSpec((rows, 1, n1, n2), lambda c, b: (b, c, 0, 0))
    of_channel = pl.BlockSpec((1, n1, n2), lambda c, b: (c, 0, 0))
    y = pl.pallas_call(
        _convolve_body,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(channels, len(x) // rows),
        in_specs=[of_rows, of_channel, of_channel, of_channel, *(_whole(t, 2) for t in _tables(n1, n2))],
        out_specs=of_rows,
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=8),
    )(x, spectrum.real, spectrum.imag, ones, *_tables(n1, n2))
    return y.reshape(-1, channels, length)[:batch]


def _correlate(x: jax.Array, dy: jax.Array, lags: Lags, taps: int, interpret: bool) -> jax.Array:
    channels, length = x.shape[1:]
    transform, rows = _plan(length, lags)
    (x, (n1, n2)), (dy, _) = _blocks(x, rows), _blocks(dy, rows)
    of_channel = pl.BlockSpec((len(x), 1, n1, n2), lambda c: (0, c, 0, 0))
    total = pl.BlockSpec((1, n1, n2), lambda c: (c, 0, 0))
    real, imaginary, *of_means = pl.pallas_call(
        functools.partial(_correlate_body, rows=rows),
        out_shape=[jax.ShapeDtypeStruct((channels, n1, n2), jnp.float32)] * 4,
        grid=(channels,),
        in_specs=[of_channel, of_channel, *(_whole(t, 1) for t in _tables(n1, n2))],
        out_specs=[total] * 4,
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=8),
    )(x, dy, *_tables(n1, n2))
    spectrum = jax.lax.complex(real, imaginary).swapaxes(1, 2).reshape(channels, length)
    spectrum = jnp.conj(spectrum) if lags.mirrored else spectrum
    found = kernel_from((spectrum,), jnp.asarray(twist_table(transform, jnp.float32)), transform, lags, taps)
    by_x, by_dy = (part.reshape(channels, length) for part in of_means)
    return found + _answer_of_means(by_x, by_dy, lags, taps)


def _convolve_body(x, kernel_r, kernel_i, ones, f1r, f1i, f2r, f2i, tr, ti, wr, wi, y):
    f1, f2, t, w = (f1r[...], f1i[...]), (f2r[...], f2i[...]), (tr[...], ti[...]), (wr[...], wi[...])
    rows, means = _centred(x, 0, x.shape[0])
    product = _times(_forward(rows, f1, f2, t, w), _of(kernel_r, kernel_i))
    back = _matmul(_conj(f1), _times(_matmul(product, _conj(f2)), _conj(t)))
    answers = back if len(rows) == 2 else [back[0] * w[0] + back[1] * w[1]]  # the real part, turned back
    for row, (answer, mean) in enumerate(zip(answers, means, strict=True)):
        y[row, 0] = (answer / answer.size + mean * ones[0]).astype(y.dtype)


def _correlate_body(x, dy, f1r, f1i, f2r, f2i, tr, ti, wr, wi, real, imaginary, of_x_mean, of_dy_mean, *, rows):
    f1, f2, t, w = (f1r[...], f1i[...]), (f2r[...], f2i[...]), (tr[...], ti[...]), (wr[...], wi[...])

    def add(step: jax.Array, totals: tuple) -> tuple:
        (xs, x_means), (dys, dy_means) = (_centred(ref, step * rows, rows) for ref in (x, dy))
        product = _times(_conj(_forward(xs, f1, f2, t, w)), _forward(dys, f1, f2, t, w))
        by_x = sum(m * (dy + n) for m, n, dy in zip(x_means, dy_means, dys, strict=True))
        by_dy = sum(n * x for n, x in zip(dy_means, xs, strict=True))
        return tuple(total + part for total, part in zip(totals, (*product, by_x, by_dy), strict=True))

    zero = jnp.zeros(real.shape[1:], jnp.float32)
    totals = jax.lax.fori_loop(0, x.shape[0] // rows, add, (zero,) * 4)
    real[0], imaginary[0], of_x_mean[0], of_dy_mean[0] = totals


def _centred(x, first: jax.Array | int, rows: int) -> tuple[list[jax.Array], list[jax.Array]]:
    """Rows less their means, and those."""
    values = [x[first + row, 0].astype(jnp.float32) for row in range(rows)]
    means = [jnp.sum(value) / value.size for value in values]
    return [value - mean for value, mean in zip(values, means, strict=True)], means


def _forward(rows: list[jax.Array], f1: Complex, f2: Complex, t: Complex, w: Complex) -> Complex:
    """Two rows as one sequence, or one row twisted, (n₁, n₂) each → its transform, [k₁, k₂]."""
    z = (rows[0], rows[1]) if len(rows) == 2 else (rows[0] * w[0], rows[0] * w[1])
    return _matmul(_times(_matmul(f1, z), t), f2)


def _times(a: Complex, b: Complex) -> Complex:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _matmul(a: Complex, b: Complex) -> Complex:
    dot = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
    return dot(a[0], b[0]) - dot(a[1], b[1]), dot(a[0], b[1]) + dot(a[1], b[0])


def _conj(a: Complex) -> Complex:
    return a[0], -a[1]


def _of(real: jax.Array, imaginary: jax.Array) -> Complex:
    return real[0], imaginary[0]


def _plan(length: int, lags: Lags) -> tuple[Transform, int]:
    """The form of transform, and how many rows of the batch one takes."""
    return (Transform("complex", length), 2) if lags.circular else (Transform("twisted", length), 1)


def _blocks(x: jax.Array, rows: int) -> tuple[jax.Array, tuple[int, int]]:
    """(batch, channels, length) → (batch filled up to whole blocks, channels, n₁, n₂)."""
    batch, channels, length = x.shape
    n1 = 2 ** ((length.bit_length() - 1) // 2)
    x = jnp.pad(x, ((0, -batch % rows), (0, 0), (0, 0)))
    return x.reshape(-1, channels, n1, length // n1), (n1, length // n1)


def _whole(table: jax.Array, axes: int) -> pl.BlockSpec:
    return pl.BlockSpec(table.shape, (lambda c, b: (0, 0)) if axes == 2 else (lambda c: (0, 0)))


def _tables(n1: int, n2: int) -> list[jax.Array]:
    """Fourier matrices of n₁ and n₂, twiddles and twist, (n₁, n₂): real and imaginary part of each, float32."""
    j1, j2, n = np.arange(n1), np.arange(n2), n1 * n2
    matrices = [np.exp(-2j * np.pi * np.outer(j, j) / len(j)) for j in (j1, j2)]
    twiddle = np.exp(-2j * np.pi * np.outer(j1, j2) / n)
    twist = np.exp(-0.5j * np.pi * np.arange(n) / n).reshape(n1, n2)
    return [jnp.asarray(part, jnp.float32) for a in (*matrices, twiddle, twist) for part in (a.real, a.imag)]


def _answer_to_ones(kernel: jax.Array, length: int, lags: Lags) -> jax.Array:
    """What the convolution makes of a sequence of ones: (channels, length), the sum of the taps that meet it."""
    channels, taps = kernel.shape
    if lags.circular:
        return jnp.broadcast_to(jnp.sum(kernel, axis=1, keepdims=True), (channels, length))
    t = np.arange(length)
    if lags.mirrored:  # position t + lag(k) must lie inside
        first, last = -t - lags.first, length - 1 - t - lags.first
    else:  # position t − lag(k)
        first, last = t - (length - 1) - lags.first, t - lags.first
    return _sums_within(kernel, np.clip(first, 0, taps), np.clip(last + 1, 0, taps))


def _answer_of_means(by_x: jax.Array, by_dy: jax.Array, lags: Lags, taps: int) -> jax.Array:
    """What the means of x and dy add to each tap's gradient: (channels, taps).

    by_x (channels, length) holds Σ mean(x) · dy over the batch, by_dy Σ mean(dy) · (x − mean(x)).
    """
    channels, length = by_x.shape
    if lags.circular:  # the other sums to 0
        return jnp.broadcast_to(jnp.sum(by_x, axis=1, keepdims=True), (channels, taps))
    lag = (lags.first + np.arange(taps)) * (-1 if lags.mirrored else 1)  # dy's position less x's
    of_dy = _sums_within(by_x, np.maximum(0, lag), np.minimum(length, length + lag))
    return of_dy + _sums_within(by_dy, np.maximum(0, -lag), np.minimum(length, length - lag))


def _sums_within(values: jax.Array, first: np.ndarray, end: np.ndarray) -> jax.Array:
    """Σ values[:, first:end], a column for each of the bounds."""
    sums = jnp.pad(jnp.cumsum(values, axis=1), ((0, 0), (1, 0)))
    return sums[:, end] - sums[:, first]
