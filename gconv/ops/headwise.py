"""Functions that treat every sequence and every head by itself, local on sharded arrays, positions included.

Where the positions are split over devices, XLA would gather keys and values. Here heads are exchanged for positions
and back instead (`all_to_all`), as in DeepSpeed-Ulysses (Jacobs et al. 2023, arXiv:2309.14509): each device then holds
whole sequences of some heads. Where the heads are too few, sequences of the batch are exchanged too, and what neither
divides by is gathered. A plain `jax.jit` does all this, by `custom_partitioning` (`gconv.ops.partitioning`).

One primitive carries it. Its tangent is the function's own tangent under the same primitive, and that one's transpose
too, so derivatives of every order exchange heads as the function does. A gradient starts from the operands again; under
one `jit` the compiler finds what the forward pass has computed already.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gconv.ops.partitioning import mesh_axes, partitioned

Function = Callable[..., tuple[jax.Array, ...]]


def headwise(function: Function, masks: Sequence[jax.Array], operands: Sequence[jax.Array]) -> list[jax.Array]:
    """function(*masks, *operands): arrays like the operands.

    masks (batch, length) bool; operands (batch, length, heads, size), of one shape, floating. `function` is hashable,
    a module's own or a `functools.partial` of one, and acts on each entry of batch and heads by itself.
    """
    return _bind(*masks, *operands, function=function, masks=len(masks), tangent_of=None)


def _bind(*args: jax.Array, function: Function, masks: int, tangent_of: Function | None) -> list[jax.Array]:
    # The traced call rides along as a parameter: seeing custom_partitioning inside it, jit passes the devices on.
    call = _partitioned(function, masks, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args))
    return _headwise_p.bind(*args, function=function, masks=masks, tangent_of=tangent_of, call=call)


@functools.lru_cache(maxsize=1024)
def _partitioned(function: Function, masks: int, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    results = len(jax.eval_shape(function, *shapes))
    batch, _, heads, _ = shapes[-1].shape

    def partition(mesh: Mesh, operands: Sequence[NamedSharding]) -> Any:
        like = operands[masks]
        of_rows, of_heads = list(mesh_axes(like, 0)), list(mesh_axes(like, 2))
        for axis in mesh_axes(like, 1):
            for axes, size in ((of_heads, heads), (of_rows, batch)):
                if size % math.prod(mesh.shape[a] for a in (*axes, axis)) == 0:
                    axes.append(axis)
                    break
        rows = tuple(of_rows) or None
        mask, whole = (
            NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((rows, None), (rows, None, tuple(of_heads) or None))
        )
        return function, (whole,) * results, (mask,) * masks + (whole,) * (len(shapes) - masks)

    operands = ["b l"] * masks + ["b l h d"] * (len(shapes) - masks)
    rule = f"{', '.join(operands)} -> {', '.join(['b l h d'] * results)}"
    return partitioned(function, shapes, rule, partition, f"headwise {_name(function)} {masks}")


def _name(function: Function) -> str:
    if isinstance(function, functools.partial):
        return f"{_name(function.func)}{function.args}{sorted(function.keywords.items())}"
    return f"{function.__module__}.{function.__qualname__}"


@functools.cache
def _tangent(function: Function, masks: int) -> Function:
    """(*masks, *operands, *their tangents) → tangents of the function's results."""

    def tangent(*args: jax.Array) -> tuple[jax.Array, ...]:
        fixed, rest = args[:masks], args[masks:]
        half = len(rest) // 2
        return jax.jvp(lambda *operands: function(*fixed, *operands), rest[:half], rest[half:])[1]

    tangent.__qualname__ = f"tangent({_name(function)}, {masks})"
    return tangent


@functools.cache
def _cotangent(function: Function, masks: int, operands: int) -> Function:
    """(*masks, *operands, *cotangents of the function's results) → cotangents of the operands."""

    def cotangent(*args: jax.Array) -> tuple[jax.Array, ...]:
        fixed, rest = args[:masks], args[masks:]
        _, pull = jax.vjp(lambda *primals: function(*fixed, *primals), *rest[:operands])
        return pull(rest[operands:])

    cotangent.__qualname__ = f"cotangent({_name(function)}, {masks}, {operands})"
    return cotangent


_headwise_p = jax.extend.core.Primitive("headwise")
_headwise_p.multiple_results = True


def _evaluate(*args: jax.Array, call: Any, **_: Any) -> list[jax.Array]:
    return jax.extend.core.jaxpr_as_fun(call)(*args)


def _abstract(*args: Any, call: Any, **_: Any) -> list[Any]:
    return [args[-1].update(shape=out.shape, dtype=out.dtype) for out in call.out_avals]


def _jvp(args: Any, tangents: Any, *, function: Function, masks: int, **params: Any) -> Any:
    filled = [ad.instantiate_zeros(t) for t in tangents[masks:]]
    out = _headwise_p.bind(*args, function=function, masks=masks, **params)
    return out, _bind(*args, *filled, function=_tangent(function, masks), masks=masks, tangent_of=function)


def _transpose(cotangents: Any, *args: Any, masks: int, tangent_of: Function, **_: Any) -> list[Any]:
    operands = (len(args) - masks) // 2
    fixed, tangents = args[: masks + operands], args[masks + operands :]
    filled = [ad.instantiate_zeros(c) for c in cotangents]
    pulled = _bind(*fixed, *filled, function=_cotangent(tangent_of, masks, operands), masks=masks, tangent_of=None)
    # What is known among the tangents is zero, of an operand that nothing is differentiated by.
    wanted = (c if ad.is_undefined_primal(t) else None for t, c in zip(tangents, pulled, strict=True))
    return [None] * len(fixed) + list(wanted)


def _batch(args: Any, dims: Any, *, function: Function, masks: int, tangent_of: Any, **_: Any) -> Any:
    """More rows. What isn't mapped over is repeated."""
    count = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    stacks = (
        jnp.broadcast_to(a, (count, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
        for a, d in zip(args, dims, strict=True)
    )
    rows = (a.reshape(-1, *a.shape[2:]) for a in stacks)
    found = _bind(*rows, function=function, masks=masks, tangent_of=tangent_of)
    return [y.reshape(count, -1, *y.shape[1:]) for y in found], [0] * len(found)


_headwise_p.def_impl(jax.jit(_evaluate, static_argnames=("function", "masks", "tangent_of", "call")))
_headwise_p.def_abstract_eval(_abstract)
mlir.register_lowering(_headwise_p, mlir.lower_fun(_evaluate, multiple_results=True))
ad.primitive_jvps[_headwise_p] = _jvp
ad.primitive_transposes[_headwise_p] = _transpose
batching.primitive_batchers[_headwise_p] = _batch
