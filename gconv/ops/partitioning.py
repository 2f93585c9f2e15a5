"""Functions that each device computes on its part of sharded arrays, under a plain `jax.jit`, by `custom_partitioning`.

JAX's persistent compilation cache knows such a function by its address, which differs from process to process: every
restart on several devices would compile anew. What is traced here carries a name of what it computes instead, and
`cache_by_name` has the cache leave out the address.
"""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import jaxpr_as_fun
from jax.sharding import AbstractMesh, Mesh, NamedSharding

# Of the operators' own code: a program that another version of it compiled is another program.
_VERSION = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))

Shardings = Sequence[NamedSharding]
Partition = Callable[[Mesh, Shardings], tuple[Callable[..., Any], Shardings, Shardings]]


def partitioned(
    function: Callable[..., Any], shapes: Sequence[jax.ShapeDtypeStruct], rule: str, partition: Partition, name: str
) -> Any:
    """The jaxpr of function(*arrays of `shapes`), for `jaxpr_as_fun` in a primitive's lowering.

    rule: which dimensions are one, for the propagation of shardings ("b c, c k -> b c"; see `custom_partitioning`).
    partition(mesh, shardings of the operands) → what each device computes, and the shardings of results and operands
    that it does so with. name: all that tells functions of the same shapes apart.
    """
    traced = jaxpr_as_fun(jax.make_jaxpr(function)(*shapes))

    def of_parts(mesh: Mesh, operands: Any, results: Any) -> Any:
        shardings = [operand.sharding for operand in operands]
        if not all(isinstance(sharding, NamedSharding) for sharding in shardings):
            # A mesh is set, with explicit axes, and these arrays aren't on it: all of them are on every device. From
            # jax 0.12 on, functions inside would say on which mesh they are, which nothing takes out again.
            def on_no_mesh(*args: Any) -> Any:
                with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
                    return function(*args)

            return mesh, on_no_mesh, [result.sharding for result in results], tuple(shardings)
        local, of_results, of_operands = partition(mesh, shardings)
        return mesh, local, list(of_results), tuple(of_operands)

    call = custom_partitioning(lambda *args: traced(*args))  # → a list
    call.def_partition(
        partition=of_parts,
        infer_sharding_from_operands=lambda mesh, operands, results: of_parts(mesh, operands, results)[2],
        sharding_rule=rule,
    )
    with set_xla_metadata(gconv=f"{name} {_VERSION:08x}"):
        return jax.make_jaxpr(call)(*shapes)


def cache_by_name() -> None:
    """For a program's start: JAX's compilation cache finds the programs with `partitioned` functions too.

    It is the whole process's setting, and wrong for other functions by `custom_partitioning` that carry no such name.
    """
    jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)


def mesh_axes(sharding: NamedSharding, dimension: int) -> tuple[str, ...]:
    """The mesh axes that split a dimension."""
    axes = sharding.spec[dimension] if dimension < len(sharding.spec) else None
    return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
