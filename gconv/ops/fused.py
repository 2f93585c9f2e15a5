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
    x, (n1, n2), steps = _blocks(x, rows)
    (spectrum,) = kernel_spectrum(kernel, jnp.asarray(twist_table(transform, jnp.float32)), transform, lags)
    spectrum = jnp.conj(spectrum) if lags.mirrored else spectrum
    spectrum = spectrum.reshape(channels, n2, n1).swapaxes(1, 2)
    size = jnp.sqrt(jnp.mean(spectrum.real**2 + spectrum.imag**2, axis=(1, 2), keepdims=True))
    spectrum = spectrum / jnp.maximum(size, TINY)
    ones = _answer_to_ones(kernel, length, lags)
    ones = ones[:, :1, None] if lags.circular else ones.reshape(channels, n1, n2)
    tables = _tables(n1, n2, lags, x.dtype)
    of_rows = pl.BlockSpec((steps * rows, 1, n1, n2), lambda c, b: (b, c, 0, 0))
    y = pl.pallas_call(
        functools.partial(_convolve_body, rows=rows),
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(channels, len(x) // (steps * rows)),
        in_specs=[
            of_rows,
            *(pl.BlockSpec((1, *a.shape[1:]), lambda c, b: (c, 0, 0)) for a in (spectrum, spectrum, size, ones)),
            *(pl.BlockSpec(a.shape, lambda c, b: (0, 0, 0)) for a in tables),
        ],
        out_specs=of_rows,
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=_warps(length), num_stages=1),
    )(x, spectrum.real, spectrum.imag, size, ones, *tables)
    return y.reshape(-1, channels, length)[:batch]


def _correlate(x: jax.Array, dy: jax.Array, lags: Lags, taps: int, interpret: bool) -> jax.Array:
    channels, length = x.shape[1:]
    transform, rows = _plan(length, lags)
    (x, (n1, n2), steps), (dy, _, _) = _blocks(x, rows), _blocks(dy, rows)
    tables = _tables(n1, n2, lags, x.dtype)
    parts, outputs = len(x) // (steps * rows), 3 if lags.circular else 4
    of_rows = pl.BlockSpec((steps * rows, 1, n1, n2), lambda c, b: (b, c, 0, 0))
    shape = (1, 1) if lags.circular else (n1, n2)
    shapes = [(n1, n2), (n1, n2), *([shape] * (outputs - 2))]
    totals = pl.pallas_call(
        functools.partial(_correlate_body, rows=rows, circular=lags.circular),
        out_shape=[jax.ShapeDtypeStruct((parts, channels, *shape), jnp.float32) for shape in shapes],
        grid=(channels, parts),
        in_specs=[of_rows, of_rows, *(pl.BlockSpec(a.shape, lambda c, b: (0, 0, 0)) for a in tables)],
        out_specs=[pl.BlockSpec((1, 1, *shape), lambda c, b: (b, c, 0, 0)) for shape in shapes],
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=_warps(length), num_stages=1),
    )(x, dy, *tables)
    real, imaginary, *of_means = (jnp.sum(total, axis=0) for total in totals)
    spectrum = jax.lax.complex(real, imaginary).swapaxes(1, 2).reshape(channels, length)
    spectrum = jnp.conj(spectrum) if lags.mirrored else spectrum
    found = kernel_from((spectrum,), jnp.asarray(twist_table(transform, jnp.float32)), transform, lags, taps) * length
    if lags.circular:  # what the means of x and dy add to each tap
        return found + of_means[0][:, 0]
    by_x, by_dy = (part.reshape(channels, length) for part in of_means)
    return found + _answer_of_means(by_x, by_dy, lags, taps)


def _convolve_body(x, kernel_r, kernel_i, size, ones, *refs, rows):
    *tables, y = refs
    f1, f2 = _matrices(*tables[:2])

    def step(i: jax.Array, carry: int) -> int:
        t, *w = (_both(table) for table in tables[2:])
        values, means = _centred(x, i * rows, rows)
        sizes = [_size([value]) for value in values]
        product = _times(
            _forward([value / s for value, s in zip(values, sizes, strict=True)], f1, f2, t, *w),
            (kernel_r[0], kernel_i[0]),
        )
        back = _conj(_matmul(f1, _times(_matmul(_conj(product), f2), t)))
        answers = [back[0] * w[0][0] + back[1] * w[0][1]] if w else back  # turned back, its real part
        for row, (answer, s, mean) in enumerate(zip(answers, sizes, means, strict=True)):
            y[i * rows + row, 0] = (answer * (s * size[0]) + mean * ones[0]).astype(y.dtype)
        return carry

    jax.lax.fori_loop(0, x.shape[0] // rows, step, 0)


def _correlate_body(x, dy, *refs, rows, circular):
    tables, outputs = (refs[:3], refs[3:]) if circular else (refs[:4], refs[4:])
    f1, f2 = _matrices(*tables[:2])

    def add(i: jax.Array, totals: tuple) -> tuple:
        t, *w = (_both(table) for table in tables[2:])
        (xs, x_means), (dys, dy_means) = (_centred(ref, i * rows, rows) for ref in (x, dy))
        x_size, dy_size = _size(xs), _size(dys)
        of_x = _forward([value / x_size for value in xs], f1, f2, t, *w)
        of_dy = _forward([value / dy_size for value in dys], f1, f2, t, *w)
        product = [part * (x_size * dy_size) for part in _times(_conj(of_x), of_dy)]
        if circular:
            means = [sum(m * n for m, n in zip(x_means, dy_means, strict=True)) * xs[0].size]
        else:
            means = [
                sum(m * (dy + n) for m, n, dy in zip(x_means, dy_means, dys, strict=True)),
                sum(n * x for n, x in zip(dy_means, xs, strict=True)),
            ]
        return tuple(total + part for total, part in zip(totals, (*product, *means), strict=True))

    zeros = tuple(jnp.zeros(ref.shape[2:], jnp.float32) for ref in outputs)
    for ref, total in zip(outputs, jax.lax.fori_loop(0, x.shape[0] // rows, add, zeros), strict=True):
        ref[0, 0] = total


def _matrices(first, second) -> tuple[Complex, Complex]:
    """Kept in shared memory while a program lasts, one for both where they are the same."""
    f1 = _both(first)
    return f1, f1 if first.shape == second.shape else _both(second)


def _both(table) -> Complex:
    return table[0], table[1]


def _centred(x, first: jax.Array | int, rows: int) -> tuple[list[jax.Array], list[jax.Array]]:
    """Rows less their means, and those."""
    values = [x[first + row, 0].astype(jnp.float32) for row in range(rows)]
    means = [jnp.sum(value) / value.size for value in values]
    return [value - mean for value, mean in zip(values, means, strict=True)], means


def _size(rows: list[jax.Array]) -> jax.Array:
    """The largest of their magnitudes, by which float16 holds them."""
    return functools.reduce(jnp.maximum, [jnp.max(jnp.abs(row)) for row in rows], TINY)


TINY = 1e-30  # less than this is taken for it


def _forward(rows: list[jax.Array], f1: Complex, f2: Complex, t: Complex, w: Complex | None = None) -> Complex:
    """Two rows as one sequence, or one row twisted, (n₁, n₂) each → its transform over √n, [k₁, k₂]."""
    z = (rows[0], rows[1]) if w is None else (rows[0] * w[0], rows[0] * w[1])
    return _matmul(_times(_matmul(f1, z), t), f2)


def _times(a: Complex, b: Complex) -> Complex:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _matmul(a: Complex, b: Complex) -> Complex:
    """In float16 if one of the two is, a table; the sums in float32."""
    dtype = min(a[0].dtype, b[0].dtype, key=lambda dtype: dtype.itemsize)
    minus = (-a[1], b[1]) if b[1].dtype == dtype else (a[1], -b[1])  # of the table there is no second copy
    (ar, ai), (br, bi), minus = ([part.astype(dtype) for part in z] for z in (a, b, minus))
    dot = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
    # Added, two products are summed where the first is; subtracted, they would take the room of both.
    return dot(ar, br) + dot(*minus), dot(ar, bi) + dot(ai, br)


def _conj(a: Complex) -> Complex:
    return a[0], -a[1]


def _plan(length: int, lags: Lags) -> tuple[Transform, int]:
    """The form of transform, and how many rows of the batch one takes."""
    return (Transform("complex", length), 2) if lags.circular else (Transform("twisted", length), 1)


PROGRAMS = 1024  # several for each of a large GPU's multiprocessors
MOST_STEPS = 8


def _blocks(x: jax.Array, rows: int) -> tuple[jax.Array, tuple[int, int], int]:
    """(batch, channels, length) → (batch filled up to whole blocks, channels, n₁, n₂), and the steps of a program.

    So that it reads the tables once for several transforms: as many, up to MOST_STEPS, as leave PROGRAMS programs.
    """
    batch, channels, length = x.shape
    n1 = 2 ** ((length.bit_length() - 1) // 2)
    blocks, steps = -(-batch // rows), 1
    while steps < MOST_STEPS and channels * blocks >= 2 * steps * PROGRAMS:
        steps *= 2
    x = jnp.pad(x, ((0, -batch % (rows * steps)), (0, 0), (0, 0)))
    return x.reshape(-1, channels, n1, length // n1), (n1, length // n1), steps


def _warps(length: int) -> int:
    return 1 if length <= 256 else 2 if length <= 1024 else 4 if length <= 2048 else 8


def _tables(n1: int, n2: int, lags: Lags, dtype: jnp.dtype) -> list[jax.Array]:
    """Fourier matrices of n₁ and n₂ over the roots of these, twiddles and, unless around a circle, twist.

    (2, n₁, n₁), (2, n₂, n₂), (2, n₁, n₂) and (2, n₁, n₂), real and imaginary parts.
    """
    j1, j2, n = np.arange(n1), np.arange(n2), n1 * n2
    tables = [np.exp(-2j * np.pi * np.outer(j, j) / len(j)) / np.sqrt(len(j)) for j in (j1, j2)]
    tables.append(np.exp(-2j * np.pi * np.outer(j1, j2) / n))
    if not lags.circular:
        tables.append(np.exp(-0.5j * np.pi * np.arange(n) / n).reshape(n1, n2))
    return [jnp.asarray(np.stack([a.real, a.imag]), jnp.float16 if dtype.itemsize == 2 else jnp.float32) for a in tables]


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
