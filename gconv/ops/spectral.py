"""Depthwise convolution by FFT: exact for real arrays, differentiable to any order, and local on sharded ones.

Two bilinear primitives carry it. With lag(k) the shift that tap k stands for,

    convolve(x, kernel)   y[b, c, t] = Σ_k  kernel[c, k] · x[b, c, t − lag(k)]
    correlate(x, dy)      r[c, k]    = Σ_bt dy[b, c, t] · x[b, c, t − lag(k)]

Each is the transpose of the other, so every derivative of either is made of the two: `grad` to any order, `jvp`,
`linearize`, `vmap` and `checkpoint` follow, and a kernel's gradient is summed over the batch as a spectrum, before its
one inverse transform. Under one `jit` the compiler finds that the gradient transforms what the forward pass has
transformed already, and keeps the spectrum instead of x.

There are three forms of transform, none of which mixes the rows of a batch, as only `gconv.ops.fused` does:

    real     rfft, of the circle or of the padded sequence
    twisted  for sequences that are zero beyond their ends: x[t] · exp(−iπt/2n), one transform of n ≥ length points a
             row and no padding to 2n. It computes modulo zⁿ = −i, where what would wrap around turns imaginary
             (the right-angle convolution of Arndt, Matters Computational, on weighted convolutions)
    paired   for the same: what a transform padded to 2n would compute, modulo z²ⁿ − 1 = (zⁿ − 1)(zⁿ + 1). By the first
             factor it is the real transform of n points; by the second, where what wraps around is negated, n real
             points are n / 2 complex ones, x[t] − i x[t + n/2], twisted. Half the sum of both has nothing that wraps

Each is an FFT or, for hardware that multiplies matrices faster than it does anything else, two products with small
Fourier matrices (`by_matrices`).

Before jax 0.12, XLA gathers the operand of an FFT whose batch is sharded. Both primitives lower behind
`custom_partitioning`: each device convolves the rows and channels that it holds. A sharded length is exchanged for
sharded channels and back (`all_to_all`), since a transform needs all of it. A plain `jax.jit` does all this. A kernel
whose taps are split is exchanged too, or from jax 0.12 on gathered, since XLA has two ways of writing shardings there.
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


def convolve(x: jax.Array, kernel: jax.Array, lags: Lags, layout: str = "bcl", method: str = "fft") -> jax.Array:
    """x (batch, channels, length), or (batch, length, channels) for layout "blc"; kernel (channels, taps) → like x.

    Both float32 or both float64; x also bfloat16 or float16 with `method` "fused". That is one of "fft", "matmul" and
    "fused", as `global_conv` has them.
    """
    return _bind(_convolve_p, x, kernel, lags=lags, taps=kernel.shape[1], layout=layout, method=method)


def correlate(
    x: jax.Array, dy: jax.Array, lags: Lags, taps: int, layout: str = "bcl", method: str = "fft"
) -> jax.Array:
    """x, dy of a layout, of one dtype as `convolve` takes it → (channels, taps), float64 or float32."""
    return _bind(_correlate_p, x, dy, lags=lags, taps=taps, layout=layout, method=method)


class Transform(NamedTuple):
    """How a sequence is transformed: the form (above), over how many points of time."""

    form: str  # "real", "twisted" or "paired"; for the kernel of `gconv.ops.fused` also "complex", two rows at a time
    points: int
    matrices: bool = False  # whether it is made of matrix products

    def points_a_row(self) -> float:
        """Points of complex transforms that one row of one channel costs, forward or back: half for a real one."""
        return self.points if self.form in ("twisted", "paired") else self.points / 2


Spectrum = tuple[jax.Array, ...]  # two arrays of a paired transform, one of any other


def plan(length: int, taps: int, lags: Lags, matrices: bool = False, paired: bool = False) -> Transform:
    """The transform that takes fewest points, "real" or one of the others, and lets nothing wrap around onto an output.

    Of the two that need no padding the twisted one, or the one that is asked for with `paired`.
    At equal points there are no zeros to fill in and to cut off: with the gradient on 2 CPU cores the twisted one takes
    0.6 to 0.95 times the padded one's time at lengths 64 to 16384.
    """
    if lags.circular:
        return Transform("real", length, matrices)
    reach = max(-lags.first, lags.first + taps - 1)
    padded = Transform("real", smooth_length(length + reach), matrices)
    unpadded = Transform("paired" if paired else "twisted", smooth_length(length, 2 if paired else 1), matrices)
    return unpadded if unpadded.points_a_row() <= padded.points_a_row() else padded


LONGEST_TWISTED = 3000


def plan_here(length: int, taps: int, lags: Lags, method: str) -> Transform:
    """`plan` for the backend that computes it: on a CPU a paired transform for what is longer than LONGEST_TWISTED.

    With the gradient, 64 channels on 2 cores, that takes 1.0 to 1.2 times the twisted one's time at lengths 256 to
    2700, 0.7 to 0.8 at 4096, 0.9 to 1.1 at 8192 and 16384, and 0.7 at 65536; forward alone 1.0 to 1.1 and, from 4096
    on, 0.5 to 0.8; and 0.7 of its memory.
    """
    paired = jax.default_backend() == "cpu" and method == "fft" and length > LONGEST_TWISTED
    return plan(length, taps, lags, method == "matmul", paired)


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
    x: jax.Array,
    kernel: jax.Array,
    twist: jax.Array,
    *tables: jax.Array,
    lags: Lags,
    taps: int,
    layout: str,
    method: str,
) -> jax.Array:
    if method == "fused":
        y = _fused().convolve(jnp.swapaxes(x, 1, 2) if layout == "blc" else x, kernel, lags, twist, *tables)
        return jnp.swapaxes(y, 1, 2) if layout == "blc" else y
    length = x.shape[layout.index("l")]
    transform = plan_here(length, taps, lags, method)
    spectrum = kernel_spectrum(kernel, twist, transform, lags)
    # A kernel's mirror image has the conjugate spectrum: so forward and gradient share one transform of the kernel.
    spectrum = _conj(spectrum) if lags.mirrored else spectrum
    product = tuple(a * b for a, b in zip(_forward(x, twist, transform, layout), spectrum, strict=True))
    y = _inverse(product, twist, transform)[..., :length]
    return _swap(y, tiled=2) if layout == "blc" else y


def _correlate(
    x: jax.Array, dy: jax.Array, twist: jax.Array, *tables: jax.Array, lags: Lags, taps: int, layout: str, method: str
) -> jax.Array:
    if method == "fused":
        x, dy = (jnp.swapaxes(a, 1, 2) if layout == "blc" else a for a in (x, dy))
        return _fused().correlate(x, dy, lags, taps, twist, *tables)
    transform = plan_here(x.shape[layout.index("l")], taps, lags, method)
    pairs = zip(_forward(x, twist, transform, layout), _forward(dy, twist, transform, layout), strict=True)
    total = tuple(_sum_of_rows(jnp.conj(a) * b) for a, b in pairs)
    return kernel_from(_conj(total) if lags.mirrored else total, twist, transform, lags, taps)


def _fused() -> Any:
    from gconv.ops import fused  # which imports from here; and Pallas takes long to import, and few ask for it

    return fused


def _conj(spectrum: Spectrum) -> Spectrum:
    return tuple(jnp.conj(part) for part in spectrum)


def _swap(x: jax.Array, tiled: int) -> jax.Array:
    """Exchanges axes 1 and 2. On a CPU in two passes over tiles of 32 along axis `tiled`, each of whole cache lines.

    Forward and gradient take 0.85 to 1.05 of the time of plain swaps, where the transform is twisted 0.8 (64 channels,
    on 2 CPU cores).
    """
    rows, m, n = x.shape
    if x.shape[tiled] % TILE or jax.default_backend() != "cpu":
        return jnp.swapaxes(x, 1, 2)
    if tiled == 1:
        return x.reshape(rows, m // TILE, TILE, n).swapaxes(2, 3).swapaxes(1, 2).reshape(rows, n, m)
    return x.reshape(rows, m, n // TILE, TILE).swapaxes(1, 2).swapaxes(2, 3).reshape(rows, n, m)


TILE = 32


def _sum_of_rows(x: jax.Array) -> jax.Array:
    """Σ over axis 0, on a CPU in halves: whole cache lines at a time, where its reduction would read all rows at each
    element and, at powers of two, evict its own lines (a tenth of the time at 32 rows of 64 × 512).
    """
    if not len(x) or jax.default_backend() != "cpu":
        return jnp.sum(x, axis=0)
    rest = []
    while len(x) > 1:
        half = len(x) // 2
        rest += [x[-1]] if len(x) % 2 else []
        x = x[:half] + x[half : 2 * half]
    return sum(rest, x[0])


def twist_table(transform: Transform, dtype: Any) -> np.ndarray:
    """What the points that are twisted are multiplied by, complex: (1, m = points), or (2, m = points / 2) if paired.

    exp(−iπt/2m), and −i times that for the second half; empty where nothing is twisted. A table, because the compiler
    would otherwise work out a cosine at each of the elements that it multiplies.
    """
    halves = {"twisted": 1, "paired": 2}.get(transform.form, 0)
    m = transform.points // max(halves, 1)
    turns = np.arange(m) / (4 * m) + np.arange(halves)[:, None] / 4
    return np.exp(-2j * np.pi * turns).astype(jnp.result_type(dtype, jnp.complex64))


def _forward(x: jax.Array, twist: jax.Array, transform: Transform, layout: str) -> Spectrum:
    """x of a layout → (batch, channels, frequencies) complex, of a paired transform two of them."""
    time = layout.index("l")
    x = jnp.pad(x, [(0, transform.points - x.shape[time] if axis == time else 0) for axis in range(3)])
    x = _swap(x, tiled=1) if layout == "blc" else x
    if transform.form == "twisted":
        return (_twist(x, twist, transform),)
    return (_fft(x, transform), _twist(x, twist, transform)) if transform.form == "paired" else (_fft(x, transform),)


def _inverse(spectrum: Spectrum, twist: jax.Array, transform: Transform) -> jax.Array:
    if transform.form == "twisted":
        return _untwist(spectrum[0], twist, transform).real
    y = _ifft(spectrum[0], transform)
    return (y + _untwist(spectrum[1], twist, transform).real) / 2 if transform.form == "paired" else y


def _twist(x: jax.Array, twist: jax.Array, transform: Transform) -> jax.Array:
    """The transform of x (…, points), real or complex, modulo zⁿ = −i, or, if paired, of real x modulo zⁿ = −1."""
    x = x.reshape(*x.shape[:-1], *twist.shape)
    first, *second = (x[..., half, :] * factors for half, factors in enumerate(twist))
    return _fft(sum(second, first), transform)


def _untwist(spectrum: jax.Array, twist: jax.Array, transform: Transform) -> jax.Array:
    """The inverse of `_twist`, complex; if paired, only the real part means anything."""
    mixed = _ifft(spectrum, transform, real=False)[..., None, :]
    return (mixed * jnp.conj(twist)).reshape(*spectrum.shape[:-1], transform.points)


def _fft(x: jax.Array, transform: Transform) -> jax.Array:
    """Over the last axis: of real x all the frequencies that don't follow from the others, or all, in any order."""
    if transform.matrices:
        return by_matrices(x)
    return jnp.fft.fft(x) if jnp.iscomplexobj(x) or transform.form == "complex" else jnp.fft.rfft(x)


def _ifft(spectrum: jax.Array, transform: Transform, real: bool = True) -> jax.Array:
    """Back from the order of `_fft` over the last axis, of x that was real or complex."""
    if transform.matrices or transform.form == "complex":
        y = by_matrices(spectrum, inverse=True) if transform.matrices else jnp.fft.ifft(spectrum)
        return y.real if real else y
    return jnp.fft.irfft(spectrum, transform.points) if real else jnp.fft.ifft(spectrum)


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


def kernel_spectrum(kernel: jax.Array, twist: jax.Array, transform: Transform, lags: Lags) -> Spectrum:
    """(channels, taps) → (channels, frequencies), one array or two as `_forward` makes them.

    Negative lags stand at the ring's end: z⁻ᵐ = zⁿ⁻ᵐ · z⁻ⁿ.
    """
    (_, taps), n = kernel.shape, transform.points
    before, after = kernel[:, : -lags.first], kernel[:, -lags.first :]  # lags below 0, and from 0 on
    if transform.form not in ("twisted", "paired"):
        ring = jnp.concatenate([after, jnp.zeros((len(kernel), n - taps), kernel.dtype), before], axis=1)
        return (_fft(ring, transform),)
    after = jnp.pad(after, ((0, 0), (0, n - after.shape[1])))
    before = jnp.pad(before, ((0, 0), (n - before.shape[1], 0)))  # times z⁻ⁿ: i, or 1 and −1
    if transform.form == "twisted":
        return (_twist(jax.lax.complex(after, before), twist, transform),)
    return _fft(after + before, transform), _twist(after - before, twist, transform)


def kernel_from(spectrum: Spectrum, twist: jax.Array, transform: Transform, lags: Lags, taps: int) -> jax.Array:
    """The transpose of `kernel_spectrum`, up to the scale of an inverse transform: where each lag is read off."""
    n = transform.points
    if transform.form == "twisted":
        ring = _untwist(spectrum[0], twist, transform)
        after, before = ring.real, ring.imag
    elif transform.form == "paired":
        around, negated = _ifft(spectrum[0], transform), _untwist(spectrum[1], twist, transform).real
        after, before = (around + negated) / 2, (around - negated) / 2
    else:
        before = after = _ifft(spectrum[0], transform)
    return jnp.concatenate([before[:, n + lags.first :], after[:, : taps + lags.first]], axis=1)


_convolve_p = jax.extend.core.Primitive("global_conv")
_correlate_p = jax.extend.core.Primitive("global_conv_kernel_gradient")
_LOCAL = {_convolve_p: _convolve, _correlate_p: _correlate}


def _bind(primitive: Any, a: jax.Array, b: jax.Array, *, lags: Lags, taps: int, layout: str, method: str) -> jax.Array:
    # The traced call rides along as a parameter: seeing custom_partitioning inside it, jit passes the devices on.
    call = _partitioned(
        primitive, a.shape, b.shape, (jnp.dtype(a.dtype), jnp.dtype(b.dtype)), lags, taps, layout, method
    )
    return primitive.bind(a, b, lags=lags, taps=taps, layout=layout, method=method, call=call)


@functools.lru_cache(maxsize=1024)
def _partitioned(
    primitive: Any,
    a: tuple[int, ...],
    b: tuple[int, ...],
    dtypes: tuple[Any, Any],
    lags: Lags,
    taps: int,
    layout: str,
    method: str,
) -> Any:
    local = functools.partial(_LOCAL[primitive], lags=lags, taps=taps, layout=layout, method=method)
    axes, channel, time = " ".join(layout), layout.index("c"), layout.index("l")
    if method == "fused":
        tables = _fused().tables(a[time], lags, dtypes[0])
    else:
        tables = [twist_table(plan_here(a[time], taps, lags, method), dtypes[1])]
    tables_axes = "".join(
        f", h{i} {' '.join(f'n{10 * i + axis}' for axis in range(1, t.ndim))}" for i, t in enumerate(tables)
    )

    def partition(mesh: Mesh, operands: Sequence[NamedSharding]) -> Any:
        rows, channels = mesh_axes(operands[0], 0), mesh_axes(operands[0], channel)
        # A transform needs the whole length: the mesh axes that split it split the channels instead, on the way in.
        channels += mesh_axes(operands[0], time)
        x = NamedSharding(mesh, PartitionSpec(*({"b": rows, "c": channels}.get(axis) or None for axis in layout)))
        kernel = NamedSharding(mesh, PartitionSpec(channels or None, None))
        whole = NamedSharding(mesh, PartitionSpec())
        if primitive is _convolve_p:
            return local, (x,), (x, kernel, *[whole] * len(tables))
        total = (lambda *parts: jax.lax.psum(local(*parts), rows)) if rows else local
        return total, (kernel,), (x, x, *[whole] * len(tables))

    call = partitioned(
        local,
        (
            jax.ShapeDtypeStruct(a, dtypes[0]),
            jax.ShapeDtypeStruct(b, dtypes[1]),
            *(jax.ShapeDtypeStruct(table.shape, table.dtype) for table in tables),
        ),
        f"{axes}, c k{tables_axes} -> {axes}" if primitive is _convolve_p else f"{axes}, {axes}{tables_axes} -> c k",
        partition,
        f"{primitive} {lags} {taps} {layout} {method}",
    )
    return jax.make_jaxpr(lambda a, b: jax.extend.core.jaxpr_as_fun(call)(a, b, *tables)[0])(*call.in_avals[:2])


def _evaluate(a: jax.Array, b: jax.Array, *, call: Any, **_: Any) -> jax.Array:
    return jax.extend.core.jaxpr_as_fun(call)(a, b)[0]


def _convolve_abstract(x: Any, kernel: Any, **_: Any) -> Any:
    del kernel
    return x


def _correlate_abstract(x: Any, dy: Any, *, call: Any, layout: str, **_: Any) -> Any:
    del dy
    # On a mesh with explicit axes types hold shardings, and a kernel's gradient is split as the channels are.
    sharding = NamedSharding(x.sharding.mesh, PartitionSpec(x.sharding.spec[layout.index("c")], None))
    return x.update(shape=call.out_avals[0].shape, dtype=call.out_avals[0].dtype, sharding=sharding)


def _convolve_batch(args: Any, dims: Any, *, lags: Lags, layout: str, method: str, **_: Any) -> tuple[jax.Array, int]:
    (x, kernel), (x_dim, kernel_dim) = args, dims
    if kernel_dim is None:  # more rows
        x = jnp.moveaxis(x, x_dim, 0)
        return convolve(x.reshape(-1, *x.shape[2:]), kernel, lags, layout, method).reshape(x.shape), 0
    # More channels. A shared x is repeated for each kernel.
    kernel = jnp.moveaxis(kernel, kernel_dim, 0)
    count, axis = len(kernel), layout.index("c")
    y = convolve(_channels_of_all(x, x_dim, count, axis), kernel.reshape(-1, kernel.shape[2]), lags, layout, method)
    return _split_channels(y, axis, count), axis


def _correlate_batch(
    args: Any, dims: Any, *, lags: Lags, taps: int, layout: str, method: str, **_: Any
) -> tuple[jax.Array, int]:
    count = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    x, dy = (_channels_of_all(a, d, count, layout.index("c")) for a, d in zip(args, dims, strict=True))
    return _split_channels(correlate(x, dy, lags, taps, layout, method), 0, count), 0


def _channels_of_all(x: jax.Array, dim: Any, count: int, axis: int) -> jax.Array:
    """Three axes, and a fourth mapped over or not → three, with `count` times as many channels along `axis`."""
    x = jnp.broadcast_to(x, (count, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
    x = jnp.moveaxis(x, 0, axis)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _split_channels(x: jax.Array, axis: int, count: int) -> jax.Array:
    return x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])


def _convolve_dx(dy: Any, x: Any, kernel: Any, *, lags: Lags, layout: str, method: str, **_: Any) -> jax.Array:
    return _split_as(convolve(dy, kernel, lags.mirror(), layout, method), x)


def _convolve_dkernel(
    dy: Any, x: Any, kernel: Any, *, lags: Lags, taps: int, layout: str, method: str, **_: Any
) -> jax.Array:
    return _split_as(correlate(x, dy, lags, taps, layout, method), kernel)


def _correlate_dx(dr: Any, x: Any, dy: Any, *, lags: Lags, layout: str, method: str, **_: Any) -> jax.Array:
    return _split_as(convolve(dy, dr, lags.mirror(), layout, method), x)


def _correlate_ddy(dr: Any, x: Any, dy: Any, *, lags: Lags, layout: str, method: str, **_: Any) -> jax.Array:
    return _split_as(convolve(x, dr, lags, layout, method), dy)


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
    _primitive.def_impl(jax.jit(_evaluate, static_argnames=("lags", "taps", "layout", "method", "call")))
    _primitive.def_abstract_eval(_abstract)
    mlir.register_lowering(_primitive, mlir.lower_fun(_evaluate, multiple_results=False))
    ad.defbilinear(_primitive, *_transposes)
    batching.primitive_batchers[_primitive] = _batcher
