"""global_conv, each boundary, layout and method, beside the convolutions and the attention of JAX and PyTorch."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gconv.models.kernels import taps_of
from gconv.ops import cost, fused, global_conv
from gconv.ops.attention import attention
from gconv.ops.convolution import BOUNDARIES, LAYOUTS, METHODS
from scripts.benchmark import rivals
from scripts.benchmark.timing import medians

LENGTHS = (16, 64, 256, 1024, 4096, 16384, 65536)
CHANNELS, HEAD_SIZE = 64, 32
ELEMENTS = 2**22  # of x
PYTORCH_ATTENTION, PYTORCH_DIRECT = "PyTorch attention", "PyTorch direct sum bcl"
SPLIT = "global_conv bcl, a device a core"
MOST_SCORES = 2**27  # JAX's attention is run while its score matrices, which it keeps, have no more entries
SLOW = 2**35  # FLOPs of attention beyond which it is called once, after one call to warm up; of PyTorch's sum an eighth
MOST_DIRECT = 2**38  # FLOPs of a direct sum, which with its gradient takes a minute
SHORT_KERNELS = (4, 8, 16)  # taps
MOST_SUMMED = 2**31  # FLOPs of "matrix" with all taps, which so is measured up to length 256


class Case(NamedTuple):
    method: str
    boundary: str  # "" for attention
    run: Callable[[bool], Callable[[], None]]  # run(gradient) is what is timed: a call that waits for its result
    facts: dict[str, Any] = {}
    slow: bool = False  # called once, after one call to warm up


def measure(length: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One row a method: seconds forward and with gradient, memory, error against float64."""
    batch = max(1, ELEMENTS // (length * CHANNELS))
    rng = np.random.default_rng(length)
    x, dy = (rng.standard_normal((batch, length, CHANNELS), np.float32) for _ in range(2))
    cases: list[Case] = []
    for boundary in BOUNDARIES:
        kernel = rng.standard_normal((taps_of(length, boundary), CHANNELS), np.float32) / np.float32(np.sqrt(length))
        operands = {
            "blc": [x, kernel, dy],
            "bcl": [np.ascontiguousarray(np.swapaxes(a, -1, -2)) for a in (x, kernel, dy)],
        }
        cases += [*_ours(boundary, operands), *_rivals(boundary, operands)]
        cases += _methods(operands["bcl"]) if boundary == "circular" else []
    cases += _attentions(x)
    rows = [{"method": c.method, "boundary": c.boundary, "length": length, "batch": batch, **c.facts} for c in cases]
    for which, gradient in (("forward", False), ("gradient", True)):
        calls = [
            {f"{c.method} {c.boundary}": c.run(gradient) for c in cases if c.slow == slow} for slow in (False, True)
        ]
        taken = medians(calls[0], rounds, seconds) | medians(calls[1], 1, seconds, warm_up=1)
        for row, case in zip(rows, cases, strict=True):
            row[which] = taken[f"{case.method} {case.boundary}"]
    return rows


def _ours(boundary: str, operands: dict[str, list[np.ndarray]]) -> Iterator[Case]:
    """By FFT in both layouts and, in bcl, with the batch split over the devices; on a GPU by the fused kernel."""
    batch, _, length = operands["bcl"][0].shape
    for layout in LAYOUTS:
        yield Case(f"global_conv {layout}", boundary, *_jax(_method("fft", boundary, layout), operands[layout]))
    if jax.device_count() > 1 and batch % jax.device_count() == 0:
        yield Case(SPLIT, boundary, *_jax(_method("fft", boundary), operands["bcl"], split=True))
    if jax.default_backend() != "cpu" and boundary != "circular":  # there `_methods` has it
        yield Case(_name("matmul"), boundary, *_jax(_method("matmul", boundary), operands["bcl"]))
    if jax.default_backend() == "gpu" and fused.supports(length):  # bfloat16 in and out; its error is bfloat16's
        made = [a.astype(jnp.bfloat16) for a in operands["bcl"]]
        yield Case(_name("fused"), boundary, *_jax(_method("fused", boundary), made))


def _methods(operands: list[np.ndarray]) -> Iterator[Case]:
    """Those of global_conv that `_ours` lacks, around the circle, with few taps and with all; operands of bcl.

    "direct" takes seconds, and in float64, for the error, a minute with 16 taps, so it has few and is called once.
    """
    x, kernel, dy = operands
    for taps in SHORT_KERNELS:
        methods = ("fft", "shift", "direct") if taps == min(SHORT_KERNELS) else ("fft", "shift")
        for method in methods if taps < kernel.shape[1] else ():
            run, facts = _jax(_method(method, "circular"), [x, kernel[:, :taps], dy])
            yield Case(_name(method, taps), "circular", run, facts | {"taps": taps}, slow=method == "direct")
    affordable = 2 * x.size * kernel.shape[1] <= MOST_SUMMED
    for method in ("matmul", "matrix") if affordable else ("matmul",):
        yield Case(_name(method), "circular", *_jax(_method(method, "circular"), operands))


def _method(method: str, boundary: str, layout: str = "bcl") -> Callable[..., jax.Array]:
    def f(x: jax.Array, kernel: jax.Array) -> jax.Array:
        exact = method == "fused" and x.dtype == jnp.float64  # what the error is told by; the kernel takes no float64
        return global_conv(x, kernel, boundary=boundary, layout=layout, method="fft" if exact else method)

    return f


def _name(method: str, taps: int = 0) -> str:
    """With a number of taps, or with all."""
    name = "global_conv bcl" if method == "fft" else f"global_conv {method} bcl"
    return f"{name}, {taps} taps" if taps else name


def _rivals(boundary: str, operands: dict[str, list[np.ndarray]]) -> Iterator[Case]:
    naive = functools.partial(rivals.naive, boundary=boundary)
    yield Case("naive jnp.fft", boundary, *_jax(naive, operands["blc"]))
    torch = rivals.torch_or_none()
    if torch is None:
        return
    for layout, axis in (("blc", 1), ("bcl", 2)):
        x, kernel, dy = operands[layout]
        if boundary == "bidirectional":  # PyTorch cuts a kernel that is longer than its transform; ours isn't
            kernel = np.pad(kernel, [(0, 1), (0, 0)] if axis == 1 else [(0, 0), (0, 1)])
        run = functools.partial(rivals.torch_convolution, torch, x, kernel, dy, boundary, axis)
        yield Case(f"PyTorch rfft {layout}", boundary, run)
    x, kernel, dy = operands["bcl"]
    flops = 2 * x.size * kernel.shape[1]
    if boundary == "circular" and flops <= MOST_DIRECT:
        run = functools.partial(rivals.torch_direct, torch, x, kernel, dy)
        yield Case(PYTORCH_DIRECT, boundary, run, slow=flops > SLOW / 8)


def _attentions(x: np.ndarray) -> Iterator[Case]:
    batch, length, _ = x.shape
    q = x.reshape(batch, length, CHANNELS // HEAD_SIZE, HEAD_SIZE)
    if q.size // HEAD_SIZE * length <= MOST_SCORES:
        run, facts = _jax(lambda q, k: attention(q, k, k), [q, q, q])
        yield Case("jax.nn attention", "", run, {"bytes": facts["bytes"]})
    torch = rivals.torch_or_none()
    if torch is not None:
        run = functools.partial(rivals.torch_attention, torch, np.ascontiguousarray(np.swapaxes(q, 1, 2)))
        yield Case(PYTORCH_ATTENTION, "", run, slow=cost.attention(length, CHANNELS).fft * batch > SLOW)


def least_bytes(row: dict[str, Any]) -> int:
    """What any method must move in the forward pass of a row: the two passes over x and y, or attention's four."""
    batch, length, boundary = row["batch"], row["length"], row["boundary"]
    itemsize = 2 if "fused" in row["method"] else 4
    if not boundary:
        return cost.attention_bytes(batch, length, CHANNELS, itemsize)
    return cost.global_conv_bytes(batch, length, CHANNELS, row.get("taps") or taps_of(length, boundary), itemsize)


def _jax(f: Callable[..., jax.Array], operands: list[np.ndarray], split: bool = False) -> tuple[Any, dict[str, Any]]:
    """f(x, kernel) as a maker of timed calls, with its memory and its error; `split`: the batch over all devices."""

    def value_and_gradients(x: Any, kernel: Any, dy: Any) -> Any:
        y, pull = jax.vjp(f, x, kernel)
        return y, *pull(dy)

    arrays = [jnp.asarray(a) for a in operands]
    if split:
        mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
        arrays = [
            jax.device_put(a, NamedSharding(mesh, PartitionSpec("batch") if a.ndim == 3 else PartitionSpec()))
            for a in arrays
        ]
    compiled = {
        False: jax.jit(lambda x, kernel, dy: f(x, kernel)).lower(*arrays).compile(),
        True: jax.jit(value_and_gradients).lower(*arrays).compile(),
    }

    def run(gradient: bool) -> Callable[[], None]:
        return lambda: jax.block_until_ready(compiled[gradient](*arrays))  # type: ignore[return-value]

    memory = compiled[True].memory_analysis()
    parts = jax.device_count() if split else 1
    facts: dict[str, Any] = {"bytes": parts * (memory.temp_size_in_bytes + memory.output_size_in_bytes)}
    if arrays[1].ndim == 2:
        with jax.enable_x64(True):
            exact = jax.jit(value_and_gradients)(*(jnp.asarray(a, jnp.float64) for a in operands))
        found = zip(("y", "dx", "dkernel"), compiled[True](*arrays), exact, strict=True)
        facts["error"] = {
            name: float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))
            for name, a, b in found
        }
    return run, facts


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| length | batch | method | forward ms | with gradient ms | GB/s | memory / x | largest error |",
        "|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = 4 * row["batch"] * row["length"] * CHANNELS
        memory = f"{row['bytes'] / size:.1f}" if "bytes" in row else "–"
        error = f"{max(row['error'].values()):.0e}" if "error" in row else "–"
        lines.append(
            f"| {row['length']} | {row['batch']} | {row['method']} {row['boundary']} | {1e3 * row['forward']:.2f} |"
            f" {1e3 * row['gradient']:.2f} | {least_bytes(row) / row['forward'] / 1e9:.1f} | {memory} | {error} |"
        )
    return "\n".join(lines)


def by_method(rows: list[dict[str, Any]]) -> str:
    """Times of global_conv's methods beside that of its FFT, with the gradient, around the circle.

    The rules of "auto" (`gconv.ops.convolution.fastest_method`) can be held against them.
    """
    shown = [("direct", min(SHORT_KERNELS)), *(("shift", taps) for taps in SHORT_KERNELS), ("matrix", 0), ("matmul", 0)]
    names = [f"{method}, {taps or 'all'} taps" for method, taps in shown]
    lines = ["| length | " + " | ".join(names) + " |", "|---:|" + "---:|" * len(shown)]
    for length in dict.fromkeys(row["length"] for row in rows):
        of = {(row["method"], row["boundary"]): row["gradient"] for row in rows if row["length"] == length}
        times = [[of.get((_name(m, taps), "circular")) for m in (method, "fft")] for method, taps in shown]
        ratios = [f"{mine / fft:.2f}" if mine and fft else "–" for mine, fft in times]
        lines.append(f"| {length:,} | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


def by_length(rows: list[dict[str, Any]]) -> str:
    """What mixing tokens alone takes with its gradient: the convolution by FFT and by its sum, and attention."""
    shown = {
        "by FFT, circular": ("global_conv bcl", "circular"),
        "by FFT, causal": ("global_conv bcl", "causal"),
        "its sum, circular (PyTorch)": (PYTORCH_DIRECT, "circular"),
        "attention (PyTorch)": (PYTORCH_ATTENTION, ""),
        "attention (JAX)": ("jax.nn attention", ""),
    }
    lines = [
        "| length | batch | "
        + " | ".join(f"{name}, ms" for name in shown)
        + " | attention ÷ FFT, circular | memory / x: by FFT | attention (JAX) |",
        "|---:|---:|" + "---:|" * (len(shown) + 3),
    ]
    for length in dict.fromkeys(row["length"] for row in rows):
        of = {(row["method"], row["boundary"]): row for row in rows if row["length"] == length}
        found: list[Any] = [of.get(key) for key in shown.values()]
        times = [f"{1e3 * row['gradient']:,.0f}" if row else "not run" for row in found]
        ours, *_, theirs, scored = found
        batch, x_bytes = ours["batch"], 4 * ours["batch"] * length * CHANNELS
        ratio = f"{theirs['gradient'] / ours['gradient']:,.1f}" if theirs else "–"
        memory = [f"{row['bytes'] / x_bytes:.0f}" if row else "not run" for row in (ours, scored)]
        lines.append(f"| {length:,} | {batch:,} | " + " | ".join([*times, ratio, *memory]) + " |")
    return "\n".join(lines) + "\n"


def bars(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """(what, measured ratio, bound) for the goals that the project set itself; a goal is met if ratio ≤ bound."""
    time = {(row["method"], row["boundary"], row["length"]): row["gradient"] for row in rows}
    found = []
    for length in (1024, 4096, 16384):
        ours = {layout: time[f"global_conv {layout}", "circular", length] for layout in ("bcl", "blc")}
        naive = time["naive jnp.fft", "circular", length]
        found += [(f"L {length}: bcl / naive jnp.fft over axis 1", ours["bcl"] / naive, 0.75)]
        found += [(f"L {length}: blc / naive jnp.fft over axis 1", ours["blc"] / naive, 1.0)]
        found += [(f"L {length}: causal / circular, bcl", time["global_conv bcl", "causal", length] / ours["bcl"], 2.0)]
        if (SPLIT, "circular", length) in time:
            ratio = time[SPLIT, "causal", length] / time[SPLIT, "circular", length]
            found += [(f"L {length}: causal / circular, bcl, a device a core", ratio, 2.0)]
        if ("PyTorch rfft bcl", "circular", length) in time:
            best = min(time[f"PyTorch rfft {layout}", "circular", length] for layout in ("blc", "bcl"))
            found += [(f"L {length}: bcl / the better of PyTorch's rfft layouts", ours["bcl"] / best, 1.0)]
    if (PYTORCH_ATTENTION, "", 1024) in time:
        ratio = time["global_conv bcl", "circular", 1024] / time[PYTORCH_ATTENTION, "", 1024]
        found += [("L 1024: bcl / PyTorch's attention", ratio, 1 / 20)]
    by_fft = {"global_conv blc", _name("fft"), SPLIT}
    others = {_name(method) for method in METHODS} - {_name("fused"), *by_fft}  # the fused kernel's is bfloat16's
    others |= {_name(method, taps) for method in METHODS for taps in SHORT_KERNELS}
    for what, methods in (("", by_fft), (" of the methods but the FFT", others)):
        errors = [max(row["error"].values()) for row in rows if row["method"] in methods]
        goal = f"largest relative error{what} against float64, in units of 1e-6"
        found += [(goal, 1e6 * max(errors), 1.0)] if errors else []
    return found


def draw(rows: list[dict[str, Any]], device: str, path: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    shown = [
        ("global_conv bcl", "circular"),
        ("global_conv bcl", "bidirectional"),
        ("global_conv blc", "circular"),
        ("naive jnp.fft", "circular"),
        ("PyTorch rfft bcl", "circular"),
        ("jax.nn attention", ""),
        (PYTORCH_ATTENTION, ""),
    ]
    for axes, which in zip(panels, ("forward", "gradient"), strict=True):
        for method, boundary in shown:
            mine = [row for row in rows if (row["method"], row["boundary"]) == (method, boundary)]
            tokens = [row["batch"] * row["length"] for row in mine]
            times = [1e9 * row[which] / n for row, n in zip(mine, tokens, strict=True)]
            style = {"ls": "--"} if "global_conv" not in method else {"lw": 2}
            axes.plot([row["length"] for row in mine], times, marker="o", ms=4, label=f"{method} {boundary}", **style)
        axes.set(xscale="log", yscale="log", xlabel="length", title={"gradient": "with gradient"}.get(which, which))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"ns a token of {CHANNELS} channels")
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"Global convolution and attention, float32, {device}")
    figure.savefig(path, dpi=130)
    plt.close(figure)
