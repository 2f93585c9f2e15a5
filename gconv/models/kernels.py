"""Parameterisations of a long kernel: modules that yield its taps.

A kernel is built as `Kernel(features, length, boundary, **options, rngs=…)` and called as

    taps = kernel(length, step=1.0, key=None)    (features, taps_of(length, boundary)) float32

for sequences of `length`, by default the one it was built for. `step` is the distance of neighbouring positions, in
units of those it was trained on: 1/4 where the same signal is sampled four times as densely. Which other lengths and
steps make sense is a matter of its mathematics, and each class says so:

    class                  other lengths                        other steps
    FreeKernel             not circular; new lags are zero      no
    MultiScaleKernel       yes; lags past the last scale zero   yes, interpolated
    MultiResolutionKernel  the same                             yes, the basis is continuous
    ImplicitKernel         yes, extrapolated                    yes, the network is continuous
    DiagonalKernel         yes                                  yes, the system is continuous
    FourierKernel          circular, as another step            length · step = the length it was built for
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gconv.models.dropout import drop_out

# Kernels are float32 on every device, where the default lets matrix units round what they multiply.
product = functools.partial(jnp.matmul, precision="highest")


class KernelParam(nnx.Param):
    """A parameter that makes a long kernel: the optimiser gives it its own learning rate and weight decay."""


def taps_of(length: int, boundary: str) -> int:
    """How many taps reach every position of a sequence: its length, or 2·length − 1 for lags of both signs."""
    return 2 * length - 1 if boundary == "bidirectional" else length


def distances(length: int, boundary: str) -> np.ndarray:
    """How far each tap reaches: (taps,) integers. Around the circle the shorter way counts."""
    taps = np.arange(taps_of(length, boundary))
    if boundary == "bidirectional":
        return np.abs(taps - (length - 1))
    return np.minimum(taps, length - taps) if boundary == "circular" else taps


class FreeKernel(nnx.Module):
    """Every tap a parameter, as in LongConv (Fu et al. 2023, arXiv:2302.06646).

    Initialised to scale · n · exp(−(r/L) · (C/2)^(i/C)), n standard normal, r the distance of the tap, i of C the
    channel: from nearly flat for the first channel to e-folding within 2L/C positions for the last (LongConv's
    exponential initialisation); without `decay` to scale · n, its random one. In use each tap becomes the mean of the
    2 · smooth + 1 around it, taps are squashed, sign(k) · max(|k| − squash, 0), and in training each is dropped with
    probability `dropout`.
    """

    def __init__(
        self,
        features: int,
        length: int,
        boundary: str,
        *,
        scale: float = 0.02,
        decay: bool = True,
        smooth: int = 0,
        squash: float = 0.0,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        if not (scale > 0 and smooth >= 0 and squash >= 0 and 0 <= dropout < 1):
            raise ValueError(
                f"a free kernel's scale must be positive, smooth and squash at least 0 and dropout in [0, 1);"
                f" got {scale}, {smooth}, {squash} and {dropout}"
            )
        rates = (features / 2) ** (np.arange(features) / features) if decay else np.zeros(features)
        envelope = scale * np.exp(-distances(length, boundary) / length * rates[:, None])
        noise = jax.random.normal(rngs.params(), envelope.shape, jnp.float32)
        self.taps = KernelParam(noise * jnp.asarray(envelope, jnp.float32), axes=("channels", "taps"))
        self.length, self.boundary, self.smooth, self.squash = length, boundary, smooth, squash
        self.dropout = dropout

    def __call__(self, length: int | None = None, *, step: float = 1.0, key: jax.Array | None = None) -> jax.Array:
        """ValueError for another length of a circular kernel, or another step."""
        if step != 1 or (self.boundary == "circular" and length not in (None, self.length)):
            raise ValueError(f"a free {self.boundary} kernel of length {self.length} has no taps for {length}, {step=}")
        taps = self.taps[...]
        if self.smooth:
            width = 2 * self.smooth + 1
            mode = "wrap" if self.boundary == "circular" else "constant"
            padded = jnp.pad(taps, ((0, 0), (self.smooth, self.smooth)), mode=mode)
            taps = jnp.mean(jnp.stack([padded[:, i : i + taps.shape[1]] for i in range(width)]), axis=0)
        if self.squash:
            taps = jnp.sign(taps) * jax.nn.relu(jnp.abs(taps) - self.squash)
        taps = drop_out(taps, self.dropout, key)
        more = 0 if length is None else length - self.length
        sides = (more, more) if self.boundary == "bidirectional" else (0, more)
        return taps if not more else jax.lax.pad(taps, jnp.float32(0), ((0, 0, 0), (*sides, 0)))


class DistanceKernel(nnx.Module):
    """A kernel made of functions of the distance: one for what lies behind, and unless causal one for what lies ahead.

    Around the circle each function reaches half the way. Subclasses define `at(reach, step)`: the values at distances
    0, step, … (reach − 1) · step, as (features, sides, reach); sides is 1 for causal kernels and otherwise 2.
    """

    def __init__(self, features: int, length: int, boundary: str):
        self.features, self.length, self.boundary = features, length, boundary
        self.sides = 1 if boundary == "causal" else 2

    def at(self, reach: int, step: float) -> jax.Array:
        raise NotImplementedError

    def __call__(self, length: int | None = None, *, step: float = 1.0, key: jax.Array | None = None) -> jax.Array:
        del key  # nothing here is random
        length = length or self.length
        reach = length // 2 + 1 if self.boundary == "circular" else length
        values = step * self.at(reach, step)  # more, and closer, taps add up to the same
        if self.boundary == "causal":
            return values[:, 0]
        behind, ahead = values[:, 0], values[:, 1]
        if self.boundary == "bidirectional":  # lags −(length − 1) … length − 1, positive ones behind
            return jnp.concatenate([ahead[:, :0:-1], behind], axis=1)
        return jnp.concatenate([ahead, behind[:, 1 : length - reach + 1][:, ::-1]], axis=1)  # tap k lies k ahead

    def norms(self) -> jax.Array:
        """L2 norm of each channel's taps, (features, 1, 1)."""
        return jnp.linalg.norm(self(), axis=1)[:, None, None]


class MultiScaleKernel(DistanceKernel):
    """Pieces of doubling extent and falling weight: SGConv (Li et al. 2022, arXiv:2210.09298, section 3.2).

        k = [Up₀(w₀), decay · Up₁(w₁), decay² · Up₂(w₂), …]

    one behind the other, 1 + ⌈log₂(reach/width)⌉ of them: wᵢ are `width` weights, Upᵢ stretches them linearly over
    width · 2^max(0, i − 1) positions. Weights start normal, divided by the L2 norm of the channel's taps, whose norm is
    1 then.
    """

    def __init__(
        self, features: int, length: int, boundary: str, *, width: int = 32, decay: float = 0.5, rngs: nnx.Rngs
    ):
        super().__init__(features, length, boundary)
        if width < 1 or not decay > 0:
            raise ValueError(
                f"a multi-scale kernel's width must be at least 1, its decay positive; got {width}, {decay}"
            )
        reach = length // 2 + 1 if boundary == "circular" else length
        self.width, self.decay, self.scales = width, decay, 1 + max(0, math.ceil(math.log2(reach / width)))
        shape = (features, self.sides, self.scales * width)
        self.weights = KernelParam(jax.random.normal(rngs.params(), shape), axes=("channels",))
        self.weights[...] = self.weights[...] / self.norms()

    def at(self, reach: int, step: float) -> jax.Array:
        centre = step * (np.arange(reach) + 0.5)
        scale = np.maximum(np.floor(np.log2(centre / self.width)), -1).astype(int) + 1
        begin = np.where(scale > 0, self.width * 2.0 ** (scale - 1), 0)
        place = (centre - begin) / 2.0 ** np.maximum(scale - 1, 0) - 0.5
        place = np.clip(place, 0, self.width - 1) + scale * self.width
        weight = np.where(scale < self.scales, self.decay**scale, 0.0)
        # As a product with a matrix made in place: the gradient of a gather is slow, and the matrix large to keep.
        near = jnp.abs(jnp.arange(self.scales * self.width)[:, None] - jnp.asarray(place, jnp.float32))
        return product(self.weights[...], jnp.asarray(weight, jnp.float32) * jax.nn.relu(1 - near))


class MultiResolutionKernel(DistanceKernel):
    """A weighted sum of smooth sub-kernels of doubling extent: MRConv (Cunningham et al. 2024, arXiv:2408.09453).

    Sub-kernel i is a Fourier series over the first width · 2^i positions, with the same number of terms at every i,
    and zero beyond; the kernel is Σ α_i k_i / ‖k_i‖ with α_i learnt, from 2^−i. Not as published: each sub-kernel is
    divided by its norm, where the paper normalises each branch's output over the batch; for white inputs the two agree.
    """

    def __init__(self, features: int, length: int, boundary: str, *, width: int = 32, terms: int = 16, rngs: nnx.Rngs):
        super().__init__(features, length, boundary)
        if width < 2 or not 1 <= terms <= width // 2:
            raise ValueError(f"a multi-resolution kernel needs 1 to width/2 terms; got width {width} and {terms}")
        reach = length // 2 + 1 if boundary == "circular" else length
        self.width, self.terms, self.branches = width, terms, 1 + max(0, math.ceil(math.log2(reach / width)))
        shape = (features, self.sides, self.branches, 2 * terms)
        self.series = KernelParam(jax.random.normal(rngs.params(), shape), axes=("channels",))
        alphas = np.broadcast_to(2.0 ** -np.arange(self.branches), shape[:3])
        self.alphas = KernelParam(jnp.asarray(alphas, jnp.float32), axes=("channels",))
        self.alphas[...] = self.alphas[...] / self.norms()

    def at(self, reach: int, step: float) -> jax.Array:
        values = jnp.zeros((self.features, self.sides, reach))
        for branch in range(self.branches):
            extent = self.width * 2**branch
            count = min(reach, math.ceil(extent / step))
            angles = 2 * np.pi / extent * step * jnp.arange(count) * jnp.arange(self.terms)[:, None]
            series = self.series[:, :, branch]
            k = product(series, jnp.concatenate([jnp.cos(angles), jnp.sin(angles)]))
            # Parseval: the norm over the whole extent, whatever part of it is in reach.
            power = jnp.square(series).at[..., 0].multiply(2.0).at[..., self.terms].set(0.0)
            norm = jnp.sqrt(extent / 2 * jnp.sum(power, axis=-1, keepdims=True))
            values = values.at[..., :count].add(self.alphas[:, :, branch, None] * k / norm)
        return values


class ImplicitKernel(DistanceKernel):
    """A network of sines that maps a position to its taps: CKConv (Romero et al. 2022, arXiv:2102.02611), in the form
    of Hyena (Poli et al. 2023, arXiv:2302.10866).

    k(r) = exp(−a_c r/L) · FFN(z(r)): z holds r/L and `bands` cosines and sines of it, the FFN has two hidden layers of
    `hidden` units with activation sin(frequency · x), and a_c runs from ln(100)/1.5 to ln(100)/0.3 over the channels.
    Kernels start with norm 1.
    """

    def __init__(
        self,
        features: int,
        length: int,
        boundary: str,
        *,
        hidden: int = 64,
        bands: int = 8,
        frequency: float = 10.0,
        rngs: nnx.Rngs,
    ):
        super().__init__(features, length, boundary)
        if hidden < 1 or bands < 1 or not frequency > 0:
            raise ValueError(
                f"an implicit kernel needs hidden, bands, frequency > 0; got {hidden}, {bands}, {frequency}"
            )
        self.bands, self.frequency = bands, frequency
        sizes = (1 + 2 * bands, hidden, hidden)
        # As torch.nn.Linear begins, which these papers rely on: uniform up to 1/√inputs.
        self.weights = nnx.List(KernelParam(_uniform(rngs, (m, n), m)) for m, n in itertools.pairwise(sizes))
        self.biases = nnx.List(KernelParam(_uniform(rngs, (n,), m)) for m, n in itertools.pairwise(sizes))
        self.out = KernelParam(_uniform(rngs, (features, self.sides, hidden), hidden), axes=("channels",))
        self.out[...] = self.out[...] / self.norms()

    def at(self, reach: int, step: float) -> jax.Array:
        place = step / self.length * jnp.arange(reach)
        angles = 2 * np.pi * jnp.arange(1, self.bands + 1)[:, None] * place
        z = jnp.concatenate([place[None], jnp.cos(angles), jnp.sin(angles)])
        for weight, bias in zip(self.weights, self.biases, strict=True):
            z = jnp.sin(self.frequency * (product(weight[...].T, z) + bias[...][:, None]))
        decay = np.linspace(np.log(100) / 1.5, np.log(100) / 0.3, self.features)
        return jnp.exp(-jnp.asarray(decay, jnp.float32)[:, None, None] * place) * product(self.out[...], z)


def _uniform(rngs: nnx.Rngs, shape: tuple[int, ...], inputs: int) -> jax.Array:
    bound = 1 / math.sqrt(inputs)
    return jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound)


class DiagonalKernel(DistanceKernel):
    """The impulse response of a diagonal state space: S4D-Lin (Gu et al. 2022, arXiv:2206.11893).

    k(r) = 2 Re Σ_n C_n · (exp(Δ A_n) − 1)/A_n · exp(r Δ A_n), with A_n = −1/2 + iπn for n < states/2 at the start, C_n
    complex normal, and each channel's Δ log-uniform in [0.001, 0.1]. All three are learnt, A's real part by its
    logarithm. It is what x_t = exp(ΔA) x_{t−1} + B u_t, y_t = 2 Re C x_t does to a unit impulse (a test says so).
    """

    def __init__(self, features: int, length: int, boundary: str, *, states: int = 64, rngs: nnx.Rngs):
        super().__init__(features, length, boundary)
        if states < 2 or states % 2:
            raise ValueError(f"a diagonal kernel's states must be even and positive; got {states}")
        n = states // 2
        step = jax.random.uniform(rngs.params(), (features, 1), minval=math.log(0.001), maxval=math.log(0.1))
        self.log_step = KernelParam(step, axes=("channels",))
        self.log_decay = KernelParam(jnp.full((features, n), math.log(0.5)), axes=("channels",))
        self.frequency = KernelParam(jnp.broadcast_to(np.pi * jnp.arange(n), (features, n)), axes=("channels",))
        c = jax.random.normal(rngs.params(), (features, self.sides, n, 2)) * math.sqrt(0.5)
        self.c = KernelParam(c, axes=("channels",))  # real and imaginary part

    def rates(self) -> tuple[jax.Array, jax.Array]:
        """ΔA and C · (exp(ΔA) − 1)/A: (features, states/2) and (features, sides, states/2) complex64."""
        a = jax.lax.complex(-jnp.exp(self.log_decay[...]), self.frequency[...])
        rate = jnp.exp(self.log_step[...]) * a
        c = jax.lax.complex(self.c[..., 0], self.c[..., 1])
        return rate, c * ((jnp.exp(rate) - 1) / a)[:, None]

    def at(self, reach: int, step: float) -> jax.Array:
        # r = block · q + p: a product of two short tables in place of an exponential for every r.
        rate, c = self.rates()
        block = math.isqrt(reach - 1) + 1
        inner = jnp.exp(rate[..., None] * (step * jnp.arange(block)))
        outer = jnp.exp(rate[..., None] * (step * block * jnp.arange(-(-reach // block))))
        k = 2 * jnp.einsum("fsn,fnq,fnp->fsqp", c, outer, inner, optimize=[(0, 1), (0, 1)], precision="highest").real
        return k.reshape(self.features, self.sides, -1)[..., :reach]


class FourierKernel(nnx.Module):
    """A learnt spectrum: the global filter of GFNet (Rao et al. 2021, arXiv:2107.00645), in one dimension.

        k = irfft(W),   so that rfft(y) = rfft(x) ⊙ rfft(k) on a circle of as many points

    W is complex, of taps/2 + 1 frequencies; for boundaries that aren't circular the period is that of the taps. Real
    and imaginary parts start normal, so that each *tap* has standard deviation `scale`; GFNet gives that to W itself.
    """

    def __init__(self, features: int, length: int, boundary: str, *, scale: float = 0.02, rngs: nnx.Rngs):
        if not scale > 0:
            raise ValueError(f"a Fourier kernel's scale must be positive; got {scale}")
        self.length, self.boundary, self.taps = length, boundary, taps_of(length, boundary)
        frequencies = self.taps // 2 + 1
        noise = jax.random.normal(rngs.params(), (features, frequencies, 2)) * scale * math.sqrt(self.taps / 2)
        self.spectrum = KernelParam(noise, axes=("channels",))  # real and imaginary part

    def __call__(self, length: int | None = None, *, step: float = 1.0, key: jax.Array | None = None) -> jax.Array:
        """ValueError for another length, unless it samples the same circle more or less densely."""
        del key  # nothing here is random
        length = length or self.length
        spectrum, taps = jax.lax.complex(self.spectrum[..., 0], self.spectrum[..., 1]), self.taps
        if length != self.length or step != 1:
            if self.boundary != "circular" or not math.isclose(length * step, self.length):
                raise ValueError(f"a Fourier kernel of length {self.length} has no taps for length {length}, {step=}")
            taps = length
            if self.taps % 2 == 0 and taps > self.taps:  # the highest frequency stands for two now
                spectrum = spectrum.at[:, -1].multiply(0.5)
        # irfft takes as many of the frequencies as there are points for, and adds none of the rest.
        return jnp.fft.irfft(spectrum, taps, axis=1)
