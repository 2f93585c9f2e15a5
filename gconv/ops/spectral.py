"""Depthwise convolution by FFT: exact for real arrays, differentiable to any order, and local on sharded ones.

Two bilinear primitives carry it. With lag(k) the shift that tap k stands for,

    convolve(x, kernel)   y[b, c, t] = Σ_k  kernel[c, k] · x[b, c, t − lag(k)]
    correlate(x, dy)      r[c, k]    = Σ_bt dy[b, c, t] · x[b, c, t − lag(k)]

Each is the transpose of the other, so every derivative of either is made of the two: `grad` to any order, `jvp`,
`linearize`, `vmap` and `checkpoint` follow, and a kernel's gradient is summed over the batch as a spectrum, before its
one inverse transform. Under one `jit` the compiler finds that the gradient transforms what the forward pass has
transformed already, and keeps the spectrum instead of x.

There are two forms of transform, neither of which mixes the rows of a batch:

    real     rfft, of the circle or of the padded sequence
    twisted  for sequences that are zero beyond their ends: x[t] · exp(−iπt/2n), one transform of n ≥ length points a
             row and no padding to 2n. It computes modulo zⁿ = −i, where what would wrap around turns imaginary
             (the right-angle convolution of Arndt, Matters Computational, on weighted convolutions). The transform
             may be `parts` shorter ones: its first step, by decimation in frequency, costs no pass over memory of its
             own, since the twist makes one anyway

Either is an FFT or, for hardware that multiplies matrices faster than it does anything else, two products with small
Fourier matrices (`by_matrices`).

Before jax 0.12, XLA gathers the operand of an FFT whose batch is sharded. Both primitives lower behind
`custom_partitioning`: each device convolves the rows and channels that it holds. A sharded length is exchanged for
sharded channels and back (`all_to_all`), since a transform needs all of it. A plain `jax.jit` does all this.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gconv.ops.partitioning import mesh_axes, partitioned


class Lags(NamedTuple):
    """Which shift each tap stands for: first, first + 1, …; around the circle or not; negated if `mirrored`."""

    first: int  # ≤ 0
    circular: bool
    mirrored: bool = False

    def mirror(self) -> "Lags":
        return self._replace(mirrored=not self.mirrored)


def convolve(x: jax.Array, kernel: jax.Array, lags: Lags, layout: str = "bcl", matrices: bool = False) -> jax.Array:
    """x (batch, channels, length), or (batch, length, channels) for layout "blc"; kernel (channels, taps) → like x.

    Both float32 or both float64. With `matrices` by matrix products, otherwise by FFT.
    """
    return _bind(_convolve_p, x, kernel, lags=lags, taps=kernel.shape[1], layout=layout, matrices=matrices)


def correlate(
    x: jax.Array, dy: jax.Array, lags: Lags, taps: int, layout: str = "bcl", matrices: bool = False
) -> jax.Array:
    """x, dy of a layout, both float32 or both float64 → (channels, taps)."""
    return _bind(_correlate_p, x, dy, lags=lags, taps=taps, layout=layout, matrices=matrices)


class Transform(NamedTuple):
    form: str  # "real" or "twisted"; for the kernel of `gconv.ops.fused` also "complex", which takes rows in pairs
    points: int
    matrices: bool = False  # whether it is made of matrix products
    parts: int = 1  # of a twisted one: FFTs that it is made of, of points / parts each

    def points_a_row(self) -> float:
        """Points of complex transforms that one row of one channel costs, forward or back: half for a real one."""
        return self.points if self.form == "twisted" else self.points / 2


def plan(length: int, taps: int, lags: Lags, matrices: bool = False, parts: int = 1) -> Transform:
    """The transform that takes fewest points, a twisted one in `parts`, and lets nothing wrap around onto an output."""
    if lags.circular:
        return Transform("real", length, matrices)
    reach = max(-lags.first, lags.first + taps - 1)
    padded = Transform("real", smooth_length(length + reach), matrices)
    twisted = Transform("twisted", smooth_length(length, parts), matrices, parts)
    # At equal points the twisted one has no zeros to fill in and to cut off: with gradient on 2 CPU cores it takes 0.6
    # to 0.95 times the padded one's time at lengths 64 to 16384.
    return twisted if twisted.points_a_row() <= padded.points_a_row() else padded


# Points beyond which a CPU's complex FFT takes 1.5 times as long a point.
MOST_POINTS = 3000


def plan_here(length: int, taps: int, lags: Lags, matrices: bool) -> Transform:
    """`plan` for the backend that computes it: on a CPU a twisted transform has the fewest parts that are short enough.

    With the gradient, 64 channels on 2 cores: two parts take 1.1 of the time of one at lengths 2048 and 2700, 0.68 to
    0.79 at 4000 to 6000; four 0.84 to 0.95 at 8192; eight 1.0 at 16384, where the sums over parts cost what they gain.
    """
    parts = 1
    if jax.default_backend() == "cpu" and not matrices:
        parts = next((parts for parts in (1, 2, 4) if length <= MOST_POINTS * parts), 1)
    return plan(length, taps, lags, matrices, parts)


def smooth_length(n: int, multiple: int = 1) -> int:
    """The least multiple ≥ n of `multiple` with no prime factor above 5, which an FFT takes quickly."""
    n += -n % multiple
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += multiple


def _convolve(
    x: jax.Array, kernel: jax.Array, twist: jax.Array, *, lags: Lags, taps: int, layout: str, matrices: bool
) -> jax.Array:
    length = x.shape[layout.index("l")]
    transform = plan_here(length, taps, lags, matrices)
    spectrum = kernel_spectrum(kernel, twist, transform, lags)
    # A kernel's mirror image has the conjugate spectrum: so forward and gradient share one transform of the kernel.
    spectrum = jnp.conj(spectrum) if lags.mirrored else spectrum
    y = _inverse(_forward(x, twist, transform, layout) * spectrum, twist, transform, length)
    return _swap(y, tiled=2) if layout == "blc" else y


def _correlate(
    x: jax.Array, dy: jax.Array, twist: jax.Array, *, lags: Lags, taps: int, layout: str, matrices: bool
) -> jax.Array:
    transform = plan_here(x.shape[layout.index("l")], taps, lags, matrices)
    product = jnp.conj(_forward(x, twist, transform, layout)) * _forward(dy, twist, transform, layout)
    total = _sum_of_rows(product)
    return kernel_from(jnp.conj(total) if lags.mirrored else total, twist, transform, lags, taps)


def _swap(x: jax.Array, tiled: int) -> jax.Array:
    """Exchanges axes 1 and 2. On a CPU in two passes over tiles of 32 along axis `tiled`, each of whole cache lines.

    Forward and gradient take 0.85 to 1.05 of the time of plain swaps, where the transform is twisted 0.8 (lengths 64 to
    65536, 64 channels, on 2 CPU cores).
    """
    rows, m, n = x.shape
    if x.shape[tiled] % TILE or jax.default_backend() != "cpu":
        return jnp.swapaxes(x, 1, 2)
    if tiled == 1:
        return x.reshape(rows, m // TILE, TILE, n).swapaxes(2, 3).swapaxes(1, 2).reshape(rows, n, m)
    return x.reshape(rows, m, n // TILE, TILE).swapaxes(1, 2).swapaxes(2, 3).reshape(rows, n, m)


TILE = 32


def _sum_of_rows(x: jax.Array) -> jax.Array:
    """Σ over axis 0, in halves: whole cache lines at a time, where a CPU's reduction would read all rows at each
    element and, at powers of two, evict its own lines (a tenth of the time at 32 rows of 64 × 512).
    """
    if not len(x):
        return jnp.zeros(x.shape[1:], x.dtype)
    rest = []
    while len(x) > 1:
        half = len(x) // 2
        rest += [x[-1]] if len(x) % 2 else []
        x = x[:half] + x[half : 2 * half]
    return sum(rest, x[0])


def twist_table(transform: Transform, dtype: Any) -> np.ndarray:
    """(parts, parts, n = points / parts), [m, j, t]: the factor of point m n + t for the frequencies j + k parts.

    exp(−iπ(m n + t) / 2 points) and the first step of a transform in so many parts (Cooley & Tukey 1965); empty where
    nothing is twisted. A table, because the compiler would otherwise work out a cosine at each of the elements that it
    multiplies.
    """
    parts = transform.parts if transform.form == "twisted" else 0
    m, j, t = np.ogrid[:parts, :parts, : transform.points // max(parts, 1)]
    turns = (m / max(parts, 1) + t / transform.points) * (j + 0.25)
    return np.exp(-2j * np.pi * turns).astype(jnp.result_type(dtype, jnp.complex64))


def _forward(x: jax.Array, twist: jax.Array, transform: Transform, layout: str) -> jax.Array:
    """x of a layout → (batch, channels, frequencies) complex."""
    time = layout.index("l")
    x = jnp.pad(x, [(0, transform.points - x.shape[time] if axis == time else 0) for axis in range(3)])
    x = _swap(x, tiled=1) if layout == "blc" else x
    return _fft(x, transform) if transform.form == "real" else _twist(x, twist, transform)


def _inverse(spectrum: jax.Array, twist: jax.Array, transform: Transform, length: int) -> jax.Array:
    y = _ifft(spectrum, transform) if transform.form == "real" else _untwist(spectrum, twist, transform).real
    return y[..., :length]


def _twist(x: jax.Array, twist: jax.Array, transform: Transform) -> jax.Array:
    """The twisted transform of x (…, points), real or complex; its frequencies part by part."""
    parts, _, n = twist.shape
    x = x.reshape(*x.shape[:-1], parts, 1, n)
    mixed = sum((x[..., m, :, :] * twist[m] for m in range(1, parts)), x[..., 0, :, :] * twist[0])
    return _fft(mixed, transform).reshape(*x.shape[:-3], transform.points)


def _untwist(spectrum: jax.Array, twist: jax.Array, transform: Transform) -> jax.Array:
    """The inverse of `_twist`, complex."""
    parts, _, n = twist.shape
    mixed = _ifft(spectrum.reshape(*spectrum.shape[:-1], parts, n), transform)[..., None, :]
    back = jnp.conj(twist)
    x = sum((mixed[..., j, :, :] * back[:, j] for j in range(1, parts)), mixed[..., 0, :, :] * back[:, 0]) / parts
    return x.reshape(spectrum.shape)


def _fft(x: jax.Array, transform: Transform) -> jax.Array:
    """Over the last axis: of real x all the frequencies that don't follow from the others, or all, in any order."""
    if transform.matrices:
        return by_matrices(x)
    return jnp.fft.rfft(x) if transform.form == "real" else jnp.fft.fft(x)


def _ifft(spectrum: jax.Array, transform: Transform) -> jax.Array:
    """Back from the order of `_fft` over the last axis: real for the form "real", otherwise complex."""
    if transform.matrices:
        y = by_matrices(spectrum, inverse=True)
        return y.real if transform.form == "real" else y
    return jnp.fft.irfft(spectrum, transform.points) if transform.form == "real" else jnp.fft.ifft(spectrum)


def by_matrices(x: jax.Array, inverse: bool = False) -> jax.Array:
    """The discrete Fourier transform over the last axis as two matrix products (Cooley & Tukey 1965).

    x real or complex → complex of the same shape. Of n = n₁ n₂ points, as square as n allows, frequency k₁ + n₁ k₂
    stands at place n₂ k₁ + k₂, from where the inverse takes it, so that nothing is transposed. O(n (n₁ + n₂)).
    """
    n = x.shape[-1]
    n1 = next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
    n2 = n // n1
    turn = (2j if inverse else -2j) * np.pi

    def roots(rows: int, columns: int, of: int) -> jax.Array:
        """exp(∓2πi jk / of), (rows, columns); the angle is exact however large jk is."""
        jk = jnp.arange(rows, dtype=jnp.int32)[:, None] * jnp.arange(columns, dtype=jnp.int32) % of
        return jnp.exp((turn * (jk / of)).astype(jnp.result_type(x.dtype, jnp.complex64)))

    first, twiddle, second = roots(n1, n1, n1), roots(n1, n2, n), roots(n2, n2, n2)
    x = x.reshape(*x.shape[:-1], n1, n2).astype(twiddle.dtype)
    if inverse:
        x = jnp.einsum("...kl,lm->...km", x, second, precision="highest") * twiddle
        x = jnp.einsum("jk,...km->...jm", first, x, precision="highest") / n
    else:
        x = jnp.einsum("kj,...jm->...km", first, x, precision="highest") * twiddle
        x = jnp.einsum("...km,ml->...kl", x, second, precision="highest")
    return x.reshape(*x.shape[:-2], n)


def kernel_spectrum(kernel: jax.Array, twist: jax.Array, transform: Transform, lags: Lags) -> jax.Array:
    """(channels, taps) → (channels, frequencies). Negative lags stand at the ring's end: z⁻ᵐ = zⁿ⁻ᵐ · z⁻ⁿ."""
    (_, taps), n = kernel.shape, transform.points
    before, after = kernel[:, : -lags.first], kernel[:, -lags.first :]  # lags below 0, and from 0 on
    if transform.form != "twisted":
        ring = jnp.concatenate([after, jnp.zeros((len(kernel), n - taps), kernel.dtype), before], axis=1)
        return _fft(ring, transform)
    after = jnp.pad(after, ((0, 0), (0, n - after.shape[1])))
    before = jnp.pad(before, ((0, 0), (n - before.shape[1], 0)))  # times z⁻ⁿ = i
    return _twist(jax.lax.complex(after, before), twist, transform)


def kernel_from(spectrum: jax.Array, twist: jax.Array, transform: Transform, lags: Lags, taps: int) -> jax.Array:
    """The transpose of `kernel_spectrum`, up to the scale of an inverse transform: where each lag is read off."""
    n = transform.points
    if transform.form == "twisted":
        ring = _untwist(spectrum, twist, transform)
        after, before = ring.real, ring.imag
    else:
        before = after = _ifft(spectrum, transform).real
    return jnp.concatenate([before[:, n + lags.first :], after[:, : taps + lags.first]], axis=1)


_convolve_p = jax.extend.core.Primitive("global_conv")
_correlate_p = jax.extend.core.Primitive("global_conv_kernel_gradient")
_LOCAL = {_convolve_p: _convolve, _correlate_p: _correlate}


def _bind(
    primitive: Any, a: jax.Array, b: jax.Array, *, lags: Lags, taps: int, layout: str, matrices: bool
) -> jax.Array:
    # The traced call rides along as a parameter: seeing custom_partitioning inside it, jit passes the devices on.
    call = _partitioned(primitive, a.shape, b.shape, jnp.dtype(a.dtype), lags, taps, layout, matrices)
    return primitive.bind(a, b, lags=lags, taps=taps, layout=layout, matrices=matrices, call=call)


@functools.lru_cache(maxsize=1024)
def _partitioned(
    primitive: Any,
    a: tuple[int, ...],
    b: tuple[int, ...],
    dtype: Any,
    lags: Lags,
    taps: int,
    layout: str,
    matrices: bool,
) -> Any:
    local = functools.partial(_LOCAL[primitive], lags=lags, taps=taps, layout=layout, matrices=matrices)
    axes, channel, time = " ".join(layout), layout.index("c"), layout.index("l")
    twist = twist_table(plan_here(a[time], taps, lags, matrices), dtype)

    def partition(mesh: Mesh, operands: Sequence[NamedSharding]) -> Any:
        rows, channels = mesh_axes(operands[0], 0), mesh_axes(operands[0], channel)
        # A transform needs the whole length: the mesh axes that split it split the channels instead, on the way in.
        channels += mesh_axes(operands[0], time)
        x = NamedSharding(mesh, PartitionSpec(*({"b": rows, "c": channels}.get(axis) or None for axis in layout)))
        kernel = NamedSharding(mesh, PartitionSpec(channels or None, None))
        whole = NamedSharding(mesh, PartitionSpec())
        if primitive is _convolve_p:
            return local, (x,), (x, kernel, whole)
        total = (lambda *parts: jax.lax.psum(local(*parts), rows)) if rows else local
        return total, (kernel,), (x, x, whole)

    call = partitioned(
        local,
        (
            jax.ShapeDtypeStruct(a, dtype),
            jax.ShapeDtypeStruct(b, dtype),
            jax.ShapeDtypeStruct(twist.shape, twist.dtype),
        ),
        f"{axes}, c k, p q n -> {axes}" if primitive is _convolve_p else f"{axes}, {axes}, p q n -> c k",
        partition,
        f"{primitive} {lags} {taps} {layout} {matrices}",
    )
    return jax.make_jaxpr(lambda a, b: jax.extend.core.jaxpr_as_fun(call)(a, b, twist)[0])(*call.in_avals[:2])


def _evaluate(a: jax.Array, b: jax.Array, *, call: Any, **_: Any) -> jax.Array:
    return jax.extend.core.jaxpr_as_fun(call)(a, b)[0]


def _convolve_abstract(x: Any, kernel: Any, **_: Any) -> Any:
    del kernel
    return x


def _correlate_abstract(x: Any, dy: Any, *, call: Any, layout: str, **_: Any) -> Any:
    del dy
    # On a mesh with explicit axes types hold shardings, and a kernel's gradient is split as the channels are.
    sharding = NamedSharding(x.sharding.mesh, PartitionSpec(x.sharding.spec[layout.index("c")], None))
    return x.update(shape=call.out_avals[0].shape, sharding=sharding)


def _convolve_batch(
    args: Any, dims: Any, *, lags: Lags, layout: str, matrices: bool, **_: Any
) -> tuple[jax.Array, int]:
    (x, kernel), (x_dim, kernel_dim) = args, dims
    if kernel_dim is None:  # more rows
        x = jnp.moveaxis(x, x_dim, 0)
        return convolve(x.reshape(-1, *x.shape[2:]), kernel, lags, layout, matrices).reshape(x.shape), 0
    # More channels. A shared x is repeated for each kernel.
    kernel = jnp.moveaxis(kernel, kernel_dim, 0)
    count, axis = len(kernel), layout.index("c")
    y = convolve(_channels_of_all(x, x_dim, count, axis), kernel.reshape(-1, kernel.shape[2]), lags, layout, matrices)
    return _split_channels(y, axis, count), axis


def _correlate_batch(
    args: Any, dims: Any, *, lags: Lags, taps: int, layout: str, matrices: bool, **_: Any
) -> tuple[jax.Array, int]:
    count = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    x, dy = (_channels_of_all(a, d, count, layout.index("c")) for a, d in zip(args, dims, strict=True))
    return _split_channels(correlate(x, dy, lags, taps, layout, matrices), 0, count), 0


def _channels_of_all(x: jax.Array, dim: Any, count: int, axis: int) -> jax.Array:
    """Three axes, and a fourth mapped over or not → three, with `count` times as many channels along `axis`."""
    x = jnp.broadcast_to(x, (count, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
    x = jnp.moveaxis(x, 0, axis)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _split_channels(x: jax.Array, axis: int, count: int) -> jax.Array:
    return x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])


def _convolve_dx(dy: Any, x: Any, kernel: Any, *, lags: Lags, layout: str, matrices: bool, **_: Any) -> jax.Array:
    return _split_as(convolve(dy, kernel, lags.mirror(), layout, matrices), x)


def _convolve_dkernel(
    dy: Any, x: Any, kernel: Any, *, lags: Lags, taps: int, layout: str, matrices: bool, **_: Any
) -> jax.Array:
    return _split_as(correlate(x, dy, lags, taps, layout, matrices), kernel)


def _correlate_dx(dr: Any, x: Any, dy: Any, *, lags: Lags, layout: str, matrices: bool, **_: Any) -> jax.Array:
    return _split_as(convolve(dy, dr, lags.mirror(), layout, matrices), x)


def _correlate_ddy(dr: Any, x: Any, dy: Any, *, lags: Lags, layout: str, matrices: bool, **_: Any) -> jax.Array:
    return _split_as(convolve(x, dr, lags, layout, matrices), dy)


def _split_as(cotangent: jax.Array, primal: Any) -> jax.Array:
    """On a mesh with explicit axes a cotangent's type is its primal's; on others types hold no sharding."""
    wanted = primal.aval.sharding
    if wanted.mesh.empty or jax.typeof(cotangent).sharding == wanted:
        return cotangent
    return jax.sharding.reshard(cotangent, wanted)


for _primitive, _abstract, _transposes, _batcher in (
    (_convolve_p, _convolve_abstract, (_convolve_dx, _convolve_dkernel), _convolve_batch),
    (_correlate_p, _correlate_abstract, (_correlate_dx, _correlate_ddy), _correlate_batch),
):
    _primitive.def_impl(jax.jit(_evaluate, static_argnames=("lags", "taps", "layout", "matrices", "call")))
    _primitive.def_abstract_eval(_abstract)
    mlir.register_lowering(_primitive, mlir.lower_fun(_evaluate, multiple_results=False))
    ad.defbilinear(_primitive, *_transposes)
    batching.primitive_batchers[_primitive] = _batcher
