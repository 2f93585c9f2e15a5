"""What is measured beside gconv's own operator and step: the plain JAX forms, and PyTorch's where it is installed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gconv.cores import usable_cores


def naive(x: jax.Array, kernel: jax.Array, boundary: str) -> jax.Array:
    """The convolution as one writes it down: jnp.fft over axis 1 of (batch, length, channels)."""
    length = x.shape[1]
    if boundary == "circular":
        spectrum = jnp.conj(jnp.fft.rfft(kernel, axis=0))
        return jnp.fft.irfft(jnp.fft.rfft(x, axis=1) * spectrum, n=length, axis=1)
    size, first = 2 * length, len(kernel) // 2 if boundary == "bidirectional" else 0
    y = jnp.fft.irfft(jnp.fft.rfft(x, n=size, axis=1) * jnp.fft.rfft(kernel, n=size, axis=0), n=size, axis=1)
    return jnp.roll(y, -first, axis=1)[:, :length]


def torch_or_none() -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(len(usable_cores()))
    return torch


# PyTorch's run on the GPU where it sees one. Each gives y, and with the gradient those of its operands beside it.


def _tensors(torch: Any, *arrays: np.ndarray, gradient: bool = False, dtype: Any = None) -> list[Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return [torch.tensor(a, device=device, dtype=dtype, requires_grad=gradient) for a in arrays]


def repeated(torch: Any, run: Callable[[], Any], calls: int) -> Callable[[], None]:
    """What makes that many calls and waits for the last."""

    def all_calls() -> None:
        for _ in range(calls):
            run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return all_calls


def torch_convolution(
    torch: Any, x: np.ndarray, kernel: np.ndarray, dy: np.ndarray, boundary: str, axis: int, gradient: bool
) -> Callable[[], tuple[Any, ...]]:
    """rfft, product, irfft along an axis of x; `kernel` has its taps along the same one (less the batch)."""
    taps = kernel.shape[axis - 1]
    if boundary == "bidirectional":  # one more in front, which no input meets: as long as the transform, nothing to pad
        kernel = np.pad(kernel, [(1, 0), (0, 0)] if axis == 1 else [(0, 0), (1, 0)])
    x, kernel = _tensors(torch, x, kernel, gradient=gradient)
    (dy,), length = _tensors(torch, dy), x.shape[axis]
    size = length if boundary == "circular" else 2 * length
    first = kernel.shape[axis - 1] // 2 if boundary == "bidirectional" else 0

    def run() -> tuple[Any, ...]:
        x.grad = kernel.grad = None
        with torch.set_grad_enabled(gradient):
            spectrum = torch.fft.rfft(kernel, n=size, dim=axis - 1)
            spectrum = spectrum.conj() if boundary == "circular" else spectrum
            y = torch.fft.irfft(torch.fft.rfft(x, n=size, dim=axis) * spectrum, n=size, dim=axis)
            y = torch.roll(y, -first, axis) if first else y
            y = y.narrow(axis, 0, length)
        if not gradient:
            return (y,)
        y.backward(dy)
        return y.detach(), x.grad, kernel.grad.narrow(axis - 1, kernel.shape[axis - 1] - taps, taps)

    return run


def torch_direct(
    torch: Any, x: np.ndarray, kernel: np.ndarray, dy: np.ndarray, gradient: bool
) -> Callable[[], tuple[Any, ...]]:
    """The circular sum itself, by conv1d; x, dy (batch, channels, length), kernel (channels, length)."""
    x, kernel = _tensors(torch, x, kernel, gradient=gradient)
    (dy,), length = _tensors(torch, dy), x.shape[2]

    def run() -> tuple[Any, ...]:
        x.grad = kernel.grad = None
        with torch.set_grad_enabled(gradient):
            around = torch.nn.functional.pad(x, (0, length - 1), mode="circular")
            y = torch.nn.functional.conv1d(around, kernel[:, None], groups=x.shape[1])
        if not gradient:
            return (y,)
        y.backward(dy)
        return y.detach(), x.grad, kernel.grad

    return run


def torch_attention(torch: Any, q: np.ndarray, gradient: bool, dtype: Any = None) -> Callable[[], tuple[Any, ...]]:
    """scaled_dot_product_attention of q (batch, heads, length, size) with itself."""
    q, k, v = _tensors(torch, q, q, q, gradient=gradient, dtype=dtype)
    dy = torch.ones_like(q)

    def run() -> tuple[Any, ...]:
        q.grad = k.grad = v.grad = None
        with torch.set_grad_enabled(gradient):
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        if not gradient:
            return (y,)
        y.backward(dy)
        return y.detach(), q.grad, k.grad, v.grad

    return run


def torch_step(torch: Any, *, length: int, features: int, layers: int, batch: int, layout: str) -> Callable[[], None]:
    """A training step of gconv's own model in PyTorch: the block of S4 and SGConv with a free bidirectional kernel.

    Pre-norm, FFT convolution of the zero-padded sequence in the last axis, skip, GELU, a 1 × 1 convolution with GLU;
    AdamW. Between blocks the activations are (batch, length, features) for "blc", else (batch, features, length).
    """
    functional = torch.nn.functional

    class Block(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(features)
            self.kernel = torch.nn.Parameter(0.02 * torch.randn(features, 2 * length))
            self.skip = torch.nn.Parameter(torch.randn(features, 1))
            self.glu = torch.nn.Conv1d(features, 2 * features, 1)

        def forward(self, x: Any) -> Any:
            h = self.norm(x if layout == "blc" else x.transpose(1, 2)).transpose(1, 2)
            spectrum = torch.fft.rfft(h, n=2 * length) * torch.fft.rfft(self.kernel, n=2 * length)
            y = torch.fft.irfft(spectrum, n=2 * length)[..., :length] + self.skip * h
            y = functional.glu(self.glu(functional.gelu(y)), dim=1)
            return x + (y.transpose(1, 2) if layout == "blc" else y)

    torch.manual_seed(0)
    embed, head, norm = torch.nn.Embedding(256, features), torch.nn.Linear(features, 10), torch.nn.LayerNorm(features)
    blocks = torch.nn.Sequential(*(Block() for _ in range(layers)))
    parameters = [p for module in (embed, blocks, norm, head) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    inputs, labels = torch.randint(0, 256, (batch, length)), torch.randint(0, 10, (batch,))

    def run() -> None:
        x = embed(inputs)
        x = blocks(x) if layout == "blc" else blocks(x.transpose(1, 2)).transpose(1, 2)
        loss = functional.cross_entropy(head(norm(x).mean(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.detach().item()

    return run
