"""Real FFTs over the last axis that stay sharded, with the derivatives of a linear map.

Before jax 0.12, XLA gathers the operand of an FFT whose batch is sharded, forward and backward: every device then
transforms everything. Here each transform is a primitive of its own that lowers to `jnp.fft` behind
`custom_partitioning`, with the rule that every axis but the last may stay split. So a plain `jax.jit` over sharded
arrays keeps a batch- or channel-sharded transform local, with no mesh argument and no wrapper at the call.

As a primitive with a transpose rule, rather than a `custom_vjp`, a transform supports `grad` to any order, `jvp`,
`linearize`, `vmap` and `checkpoint`. Its transpose is the other transform, scaled: never a full complex FFT.
"""

import functools
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import ad, batching, mlir


def rfft(x: jax.Array, n: int) -> jax.Array:
    """Real FFT over the last axis, zero-padded or cut to `n` samples.

    x (..., samples) float32 or float64 → (..., n // 2 + 1) complex64 or complex128.
    """
    size = min(x.shape[-1], n)  # the primitive itself is only ever bound to exactly n samples
    x = jnp.pad(x[..., :size], [(0, 0)] * (x.ndim - 1) + [(0, n - size)])
    return _bind(_rfft_p, x, n)


def irfft(spectrum: jax.Array, n: int) -> jax.Array:
    """Inverse of `rfft`: spectrum (..., n // 2 + 1) complex → (..., n) real."""
    return _bind(_irfft_p, spectrum, n)


_rfft_p = jax.extend.core.Primitive("gconv_rfft")
_irfft_p = jax.extend.core.Primitive("gconv_irfft")
_TRANSFORMS = {_rfft_p: jnp.fft.rfft, _irfft_p: jnp.fft.irfft}


def _bind(primitive: Any, x: jax.Array, n: int) -> jax.Array:
    # The traced call rides along as a parameter: seeing custom_partitioning inside it, jit passes the devices on.
    call = _partitioned_call(primitive, x.shape, jnp.dtype(x.dtype), n)
    return primitive.bind(x, n=n, call=call)


@functools.lru_cache(maxsize=1024)
def _partitioned_call(primitive: Any, shape: tuple[int, ...], dtype: jnp.dtype, n: int) -> Any:
    transform = functools.partial(_TRANSFORMS[primitive], n=n)
    local = custom_partitioning(lambda x: transform(x))
    local.def_partition(
        # The partitioner has replicated the last axis; each device transforms the rows that it holds.
        partition=lambda mesh, operands, result: (mesh, transform, result.sharding, (operands[0].sharding,)),
        infer_sharding_from_operands=lambda mesh, operands, result: operands[0].sharding,
        sharding_rule="... i -> ... j",
        need_replication_factors=("i", "j"),
    )
    return jax.make_jaxpr(local)(jax.ShapeDtypeStruct(shape, dtype))


def _evaluate(x: jax.Array, *, n: int, call: Any) -> jax.Array:
    del n
    return jax.extend.core.jaxpr_as_fun(call)(x)[0]


def _abstract(x: Any, *, n: int, call: Any) -> Any:
    del n
    return x.update(shape=call.out_avals[0].shape, dtype=call.out_avals[0].dtype)


def _hermitian_weights(n: int, dtype: Any) -> jax.Array:
    """How often each bin of a half spectrum stands in the full one: 1 for frequencies 0 and n/2, else 2."""
    weights = jnp.full(n // 2 + 1, 2, dtype).at[0].set(1)
    return weights.at[-1].set(1) if n % 2 == 0 else weights


def _rfft_transpose(cotangent: jax.Array, x: Any, *, n: int, call: Any) -> tuple[jax.Array]:
    del x, call
    weights = _hermitian_weights(n, cotangent.real.dtype)
    return (irfft(jnp.conj(cotangent) * (n / weights), n),)


def _irfft_transpose(cotangent: jax.Array, spectrum: Any, *, n: int, call: Any) -> tuple[jax.Array]:
    del spectrum, call
    return (jnp.conj(rfft(cotangent, n)) * (_hermitian_weights(n, cotangent.dtype) / n),)


def _batch(primitive: Any, args: Any, dims: Any, *, n: int, call: Any) -> tuple[jax.Array, int]:
    del call
    return _bind(primitive, jnp.moveaxis(args[0], dims[0], 0), n), 0


for _primitive, _transpose in ((_rfft_p, _rfft_transpose), (_irfft_p, _irfft_transpose)):
    _primitive.def_impl(jax.jit(_evaluate, static_argnames=("n", "call")))
    _primitive.def_abstract_eval(_abstract)
    mlir.register_lowering(_primitive, mlir.lower_fun(_evaluate, multiple_results=False))
    ad.deflinear2(_primitive, _transpose)
    batching.primitive_batchers[_primitive] = functools.partial(_batch, _primitive)
