"""global_conv, each boundary, layout and method, beside the convolutions and the attention of JAX and PyTorch."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gconv.models.kernels import taps_of
from gconv.ops import cost, global_conv
from gconv.ops.attention import attention
from gconv.ops.convolution import BOUNDARIES, LAYOUTS, METHODS, fused_length
from gconv.progress import say
from gconv.training.timing import medians
from scripts.benchmark import rivals

LENGTHS = (16, 64, 256, 1024, 4096, 16384, 65536)
CHANNELS, HEAD_SIZE = 64, 32
ELEMENTS = {"cpu": 2**22, "gpu": 2**25}  # of x: on a GPU several times what its caches hold
CALLS = {"cpu": 1, "gpu": 10}  # that are timed as one: a GPU is given the next while it computes, as in training
ATTENTION = "attention"  # of gconv.ops
NAIVE, PYTORCH_ATTENTION, PYTORCH_DIRECT = "naive jnp.fft", "PyTorch attention", "PyTorch direct sum bcl"
SPLIT = "global_conv bcl, a device a core"
CUDNN_ATTENTION, COPY = "cuDNN attention bf16", "copy of x"
FUSED, NAIVE_BF16 = "global_conv fused bcl bf16", "naive jnp.fft bf16"
MOST_SCORES = {"cpu": 2**27, "gpu": 2**30}  # JAX's attention is run while its score matrices have no more entries
SLOW = 2**35  # FLOPs of attention beyond which it is called once, after one call to warm up; of PyTorch's sum an eighth
MOST_DIRECT = {"cpu": 2**38, "gpu": 2**36}  # FLOPs of a direct sum, which with its gradient takes a minute
SHORT_KERNELS = (4, 8, 16)  # taps
MOST_SUMMED = 2**31  # FLOPs of "matrix" with all taps, which so is measured up to length 256


class Case(NamedTuple):
    method: str
    boundary: str  # "" for attention
    run: Callable[[bool], Callable[[], None]]  # run(gradient) is what is timed: CALLS calls and the wait for the last
    facts: Callable[[], dict[str, Any]] = dict  # known once it is compiled
    slow: bool = False  # timed once, after one call to warm up


def measure(length: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One row a method: seconds forward and with gradient, memory, error against float64."""
    batch = max(1, _here(ELEMENTS) // (length * CHANNELS))
    rng = np.random.default_rng(length)
    x, dy = (rng.standard_normal((batch, length, CHANNELS), np.float32) for _ in range(2))
    with ThreadPoolExecutor() as pool:
        cases, rows = [], []
        for case in _cases(x, dy, rng, pool):
            try:
                facts = case.facts()
            except jax.errors.JaxRuntimeError as error:  # a device that can't run it
                say(f"{case.method} {case.boundary}, length {length}, is left out: {str(error).splitlines()[0]}")
                continue
            cases.append(case)
            rows.append({"method": case.method, "boundary": case.boundary, "length": length, "batch": batch, **facts})
    for which, gradient in (("forward", False), ("gradient", True)):
        calls = [
            {f"{c.method} {c.boundary}": c.run(gradient) for c in cases if c.slow == slow} for slow in (False, True)
        ]
        taken = medians(calls[0], rounds, seconds) | medians(calls[1], 1, seconds, warm_up=1)
        for row, case in zip(rows, cases, strict=True):
            row[which] = taken[f"{case.method} {case.boundary}"] / _here(CALLS)
    return rows


def _here(values: dict[str, int]) -> int:
    return values["gpu" if jax.default_backend() == "gpu" else "cpu"]


def _cases(x: np.ndarray, dy: np.ndarray, rng: np.random.Generator, pool: ThreadPoolExecutor) -> list[Case]:
    """What is measured, each being compiled."""
    length = x.shape[1]
    make = functools.partial(_jax, pool)
    cases = [Case(COPY, "", *make(lambda x, _: -x, [jnp.asarray(x), jnp.zeros(1), jnp.asarray(dy)]))]
    for boundary in BOUNDARIES:
        kernel = rng.standard_normal((taps_of(length, boundary), CHANNELS), np.float32) / np.float32(np.sqrt(length))
        host = {
            "blc": [x, kernel, dy],
            "bcl": [np.ascontiguousarray(np.swapaxes(a, -1, -2)) for a in (x, kernel, dy)],
        }
        operands = {layout: [jnp.asarray(a) for a in arrays] for layout, arrays in host.items()}
        exact = functools.cache(functools.partial(_float64, boundary, operands["bcl"]))
        cases += [*_ours(boundary, operands, make, exact), *_rivals(boundary, host, exact)]
        cases += [Case(NAIVE, boundary, *make(_naive(boundary), operands["blc"], exact, "blc"))]
        if boundary == "circular":
            cases += _methods(operands["bcl"], make, exact)
        if jax.default_backend() == "gpu":
            cases += _in_bfloat16(boundary, operands, make)
    return [*cases, *_attentions(x, make)]


def _ours(boundary: str, operands: dict[str, list[jax.Array]], make: Any, exact: Any) -> Iterator[Case]:
    """By FFT in both layouts and, in bcl, with the batch split over the devices."""
    batch = len(operands["bcl"][0])
    for layout in LAYOUTS:
        f = _method("fft", boundary, layout)
        yield Case(f"global_conv {layout}", boundary, *make(f, operands[layout], exact, layout))
    if jax.device_count() > 1 and batch % jax.device_count() == 0:
        yield Case(SPLIT, boundary, *make(_method("fft", boundary), operands["bcl"], exact, split=True))
    if jax.default_backend() != "cpu" and boundary != "circular":  # there `_methods` has it
        yield Case(_name("matmul"), boundary, *make(_method("matmul", boundary), operands["bcl"], exact))


def _methods(operands: list[jax.Array], make: Any, exact: Any) -> Iterator[Case]:
    """Those of global_conv that `_ours` lacks, around the circle, with few taps and with all; operands of bcl.

    "direct" takes seconds on a CPU, so it has few taps and is called once.
    """
    x, kernel, dy = operands
    for taps in SHORT_KERNELS:
        if taps >= kernel.shape[1]:
            continue
        few = [x, kernel[:, :taps], dy]
        exact_few = functools.cache(functools.partial(_float64, "circular", few))
        for method in ("fft", "shift", "direct") if taps == min(SHORT_KERNELS) else ("fft", "shift"):
            run, facts = make(_method(method, "circular"), few, exact_few, taps=taps)
            yield Case(_name(method, taps), "circular", run, facts, slow=method == "direct")
    affordable = 2 * x.size * kernel.shape[1] <= MOST_SUMMED
    for method in ("matmul", "matrix") if affordable else ("matmul",):
        yield Case(_name(method), "circular", *make(_method(method, "circular"), operands, exact))


def _in_bfloat16(boundary: str, operands: dict[str, list[jax.Array]], make: Any) -> Iterator[Case]:
    """x and y in bfloat16, the kernel in float32: the fused kernel, and by FFT what needs no such kernel."""
    made = {
        layout: [x.astype(jnp.bfloat16), kernel, dy.astype(jnp.bfloat16)]
        for layout, (x, kernel, dy) in operands.items()
    }
    exact = functools.cache(functools.partial(_float64, boundary, made["bcl"]))
    for name, f, layout in (
        (_name("fft"), _method("fft", boundary), "bcl"),
        (_name("fused"), _method("fused", boundary), "bcl"),
        ("global_conv fused blc", _method("fused", boundary, "blc"), "blc"),
        (NAIVE, lambda x, kernel: _naive(boundary)(x.astype(jnp.float32), kernel).astype(x.dtype), "blc"),
    ):
        if "fused" not in name or fused_length(made["bcl"][0].shape[2], boundary) == made["bcl"][0].shape[2]:
            yield Case(f"{name} bf16", boundary, *make(f, made[layout], exact, layout))


def _method(method: str, boundary: str, layout: str = "bcl") -> Callable[..., jax.Array]:
    return functools.partial(global_conv, boundary=boundary, layout=layout, method=method)


def _name(method: str, taps: int = 0) -> str:
    """With a number of taps, or with all."""
    name = "global_conv bcl" if method == "fft" else f"global_conv {method} bcl"
    return f"{name}, {taps} taps" if taps else name


def _naive(boundary: str) -> Callable[..., jax.Array]:
    return functools.partial(rivals.naive, boundary=boundary)


def _rivals(boundary: str, operands: dict[str, list[np.ndarray]], exact: Any) -> Iterator[Case]:
    """PyTorch's."""
    torch = rivals.torch_or_none()
    if torch is None:
        return
    for layout, axis in (("blc", 1), ("bcl", 2)):
        x, kernel, dy = operands[layout]
        call = functools.partial(rivals.torch_convolution, torch, x, kernel, dy, boundary, axis)
        yield Case(f"PyTorch rfft {layout}", boundary, *_torch(torch, call, exact, layout))
    x, kernel, dy = operands["bcl"]
    flops = 2 * x.size * kernel.shape[1]
    if boundary == "circular" and flops <= _here(MOST_DIRECT):
        slow = flops > SLOW / 8  # then its error would cost one more call, of seconds
        call = functools.partial(rivals.torch_direct, torch, x, kernel, dy)
        yield Case(PYTORCH_DIRECT, boundary, *_torch(torch, call, None if slow else exact), slow=slow)


def _attentions(x: np.ndarray, make: Any) -> Iterator[Case]:
    """In float32 and, on a GPU, in bfloat16, there also with all channels in one head."""
    batch, length, _ = x.shape
    q = x.reshape(batch, length, CHANNELS // HEAD_SIZE, HEAD_SIZE)
    slow = cost.attention(length, CHANNELS).fft * batch > SLOW and jax.default_backend() == "cpu"
    run, facts = make(lambda q, kv: attention(q, *kv), _q_kv_dy(q))
    yield Case(ATTENTION, "", run, facts, slow=slow)
    if q.size // HEAD_SIZE * length <= _here(MOST_SCORES):
        yield Case("jax.nn attention", "", *make(lambda q, kv: jax.nn.dot_product_attention(q, *kv), _q_kv_dy(q)))
    torch = rivals.torch_or_none()
    heads = np.ascontiguousarray(np.swapaxes(q, 1, 2))
    if torch is not None:
        call = functools.partial(rivals.torch_attention, torch, heads)
        yield Case(PYTORCH_ATTENTION, "", *_torch(torch, call), slow=slow)
    if jax.default_backend() != "gpu":
        return
    for name, array in ((CUDNN_ATTENTION, q), (f"{CUDNN_ATTENTION}, 1 head", x[:, :, None])):
        attend = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
        yield Case(name, "", *make(lambda q, kv, attend=attend: attend(q, *kv), _q_kv_dy(array, jnp.bfloat16)))
    if torch is not None:
        call = functools.partial(rivals.torch_attention, torch, heads, dtype=torch.bfloat16)
        yield Case(f"{PYTORCH_ATTENTION} bf16", "", *_torch(torch, call))


def _q_kv_dy(array: np.ndarray, dtype: Any = jnp.float32) -> list[Any]:
    """Equal, but in memory of their own, so that each is read and has its gradient."""
    q, k, v, dy = (jnp.array(array, dtype) for _ in range(4))
    return [q, (k, v), dy]


def _itemsize(row: dict[str, Any]) -> int:
    return 2 if "bf16" in row["method"] else 4


def least_bytes(row: dict[str, Any]) -> int:
    """What any method must move in the forward pass of a row: the two passes over x and y, or attention's four."""
    batch, length, boundary = row["batch"], row["length"], row["boundary"]
    itemsize = _itemsize(row)
    if row["method"] == COPY:
        return 2 * itemsize * batch * length * CHANNELS
    if not boundary:
        return cost.attention_bytes(batch, length, CHANNELS, itemsize)
    return cost.global_conv_bytes(batch, length, CHANNELS, row.get("taps") or taps_of(length, boundary), itemsize)


def _jax(
    pool: ThreadPoolExecutor,
    f: Callable[..., jax.Array],
    arrays: list[Any],
    exact: Callable[[], tuple[jax.Array, ...]] | None = None,
    layout: str = "bcl",
    split: bool = False,
    **facts: Any,
) -> tuple[Callable[[bool], Callable[[], None]], Callable[[], dict[str, Any]]]:
    """f(x, kernel) as a maker of timed calls, with its memory and, against `exact`, its error.

    It is compiled by the pool. `split`: the batch over all devices.
    """
    if split:
        mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
        arrays = [
            jax.device_put(a, NamedSharding(mesh, PartitionSpec("batch") if a.ndim == 3 else PartitionSpec()))
            for a in arrays
        ]
    lowered = {
        False: jax.jit(lambda x, kernel, dy: f(x, kernel)).lower(*arrays),
        True: jax.jit(functools.partial(_value_and_gradients, f)).lower(*arrays),
    }
    compiled = {gradient: pool.submit(program.compile) for gradient, program in lowered.items()}

    def run(gradient: bool) -> Callable[[], None]:
        program = compiled[gradient].result()
        return lambda: jax.block_until_ready([program(*arrays) for _ in range(_here(CALLS))][-1])  # type: ignore[return-value]

    def known() -> dict[str, Any]:
        program = compiled[True].result()
        memory = program.memory_analysis()
        parts = jax.device_count() if split else 1
        found = {"bytes": parts * (memory.temp_size_in_bytes + memory.output_size_in_bytes)}
        compiled[False].result()
        if exact is not None:
            found["error"] = _errors(program(*arrays), exact(), layout)
        return facts | found

    return run, known


def _torch(
    torch: Any,
    call: Callable[..., Callable[[], tuple[Any, ...]]],
    exact: Callable[[], tuple[jax.Array, ...]] | None = None,
    layout: str = "bcl",
) -> tuple[Callable[[bool], Callable[[], None]], Callable[[], dict[str, Any]]]:
    """What `_jax` gives, of a function of `rivals`: but for the memory, of which PyTorch gives no account on a CPU."""

    def run(gradient: bool) -> Callable[[], None]:
        return rivals.repeated(torch, call(gradient=gradient), _here(CALLS))

    def known() -> dict[str, Any]:
        if exact is None:
            return {}
        found = tuple(jnp.asarray(a.cpu().numpy()) for a in call(gradient=True)())
        return {"error": _errors(found, exact(), layout)}

    return run, known


def _value_and_gradients(f: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
    y, pull = jax.vjp(f, x, kernel)
    return y, *pull(dy)


def _float64(boundary: str, operands: list[jax.Array]) -> tuple[jax.Array, ...]:
    """y, dx and dkernel in bcl, by this machine's CPU: a TPU has no complex numbers of that precision."""
    operands = jax.device_put(operands, jax.devices("cpu")[0])
    with jax.enable_x64(True):
        f = functools.partial(_value_and_gradients, _method("fft", boundary))
        return jax.jit(f)(*(a.astype(jnp.float64) for a in operands))


def _errors(found: tuple[jax.Array, ...], exact: tuple[jax.Array, ...], layout: str) -> dict[str, float]:
    """The norm of what is wrong over the norm of what is right."""

    def of(a: jax.Array, b: jax.Array) -> jax.Array:
        a = jnp.swapaxes(a, -1, -2) if layout == "blc" else a
        return jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel())

    with jax.enable_x64(True):
        pairs = zip(("y", "dx", "dkernel"), found, exact, strict=True)
        return {name: float(jax.jit(of)(jax.device_put(a, b.sharding), b)) for name, a, b in pairs}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| length | batch | method | forward ms | with gradient ms | GB/s | memory / x | largest error |",
        "|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = _itemsize(row) * row["batch"] * row["length"] * CHANNELS
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


def crossovers(rows: list[dict[str, Any]]) -> str:
    """From which measured length on global_conv's fastest method is faster than the fastest attention, and stays so."""
    lines = ["| faster than every attention from length | forward | with gradient |", "|---|---:|---:|"]
    for dtype, itemsize in (("float32", 4), ("bf16", 2)):
        alike = [row for row in rows if _itemsize(row) == itemsize and "taps" not in row and row["method"] != COPY]
        measured = {row["boundary"] for row in alike}
        for boundary in BOUNDARIES:
            if {boundary, ""} <= measured:
                found = [_crossover(alike, boundary, which) for which in ("forward", "gradient")]
                shown = (f"{length:,}" if length else "none" for length in found)
                lines.append(f"| {boundary}, {dtype} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _crossover(rows: list[dict[str, Any]], boundary: str, which: str) -> int | None:
    """The smallest length at which, as at all greater ones where attention was run, the convolution is faster."""
    found = None
    for length in sorted({row["length"] for row in rows if not row["boundary"]}, reverse=True):
        here = [row for row in rows if row["length"] == length]
        ours = [r[which] for r in here if r["boundary"] == boundary and "global_conv" in r["method"]]
        if not ours or min(ours) >= min(row[which] for row in here if not row["boundary"]):
            break
        found = length
    return found


def by_length(rows: list[dict[str, Any]]) -> str:
    """What mixing tokens alone takes with its gradient: the convolution by FFT and by its sum, and attention."""
    shown = {
        "by FFT, circular": ("global_conv bcl", "circular"),
        "by FFT, causal": ("global_conv bcl", "causal"),
        "its sum, circular (PyTorch)": (PYTORCH_DIRECT, "circular"),
        "attention (PyTorch)": (PYTORCH_ATTENTION, ""),
        "attention (jax.nn)": ("jax.nn attention", ""),
        "attention (here)": (ATTENTION, ""),
    }
    lines = [
        "| length | batch | "
        + " | ".join(f"{name}, ms" for name in shown)
        + " | the fastest attention ÷ FFT, circular | memory / x: by FFT | attention (here) |",
        "|---:|---:|" + "---:|" * (len(shown) + 3),
    ]
    for length in dict.fromkeys(row["length"] for row in rows):
        of = {(row["method"], row["boundary"]): row for row in rows if row["length"] == length}
        found: list[Any] = [of.get(key) for key in shown.values()]
        times = [f"{1e3 * row['gradient']:,.0f}" if row else "not run" for row in found]
        ours, *_, attention = found
        batch, x_bytes = ours["batch"], 4 * ours["batch"] * length * CHANNELS
        fastest = min(row["gradient"] for row in found[-3:] if row)
        ratio = f"{fastest / ours['gradient']:,.1f}"
        memory = [f"{row['bytes'] / x_bytes:.0f}" if row else "not run" for row in (ours, attention)]
        lines.append(f"| {length:,} | {batch:,} | " + " | ".join([*times, ratio, *memory]) + " |")
    return "\n".join(lines) + "\n"


def bars(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """(what, measured ratio, bound) for the goals that the project set itself; a goal is met if ratio ≤ bound."""
    time = {(row["method"], row["boundary"], row["length"]): row["gradient"] for row in rows}
    found = []
    for length in _goals_lengths(rows):
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
    if (PYTORCH_ATTENTION, "", 1024) in time and (CUDNN_ATTENTION, "", 1024) not in time:
        ratio = time["global_conv bcl", "circular", 1024] / time[PYTORCH_ATTENTION, "", 1024]
        found += [("L 1024: bcl / PyTorch's attention", ratio, 1 / 20)]
    if (CUDNN_ATTENTION, "", 1024) in time:
        found += _bars_of_gpu(rows)
    by_fft = {"global_conv blc", _name("fft"), SPLIT}
    others = {_name(method) for method in METHODS} - by_fft
    others |= {_name(method, taps) for method in METHODS for taps in SHORT_KERNELS}
    for what, methods in (("", by_fft), (" of the methods but the FFT", others)):
        errors = [max(row["error"].values()) for row in rows if row["method"] in methods]
        goal = f"largest relative error{what} against float64, in units of 1e-6"
        found += [(goal, 1e6 * max(errors), 1.0)] if errors else []
    return found


def _goals_lengths(rows: list[dict[str, Any]]) -> list[int]:
    return [length for length in (1024, 4096, 16384) if any(row["length"] == length for row in rows)]


def _bars_of_gpu(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    time = {(row["method"], row["boundary"], row["length"]): (row["forward"], row["gradient"]) for row in rows}
    found = []
    for length in _goals_lengths(rows):
        eight = 4 * time[COPY, "", length][0]  # a copy passes twice: reads x and writes as much
        ratio = time[_name("fft"), "circular", length][0] / eight
        found += [(f"L {length}: bcl forward / eight passes at the speed of a copy", ratio, 1 / 0.6)]
    for which, name in enumerate(("forward", "with gradient")):
        fused = time[FUSED, "circular", 4096][which]
        found += [
            (f"L 4096: fused / naive jnp.fft, bf16, {name}", fused / time[NAIVE_BF16, "circular", 4096][which], 1 / 2.5)
        ]
        best = min(time[method, "", 1024][which] for method in (CUDNN_ATTENTION, f"{CUDNN_ATTENTION}, 1 head"))
        found += [
            (f"L 1024: fused / cuDNN's attention, bf16, {name}", time[FUSED, "circular", 1024][which] / best, 1 / 1.5)
        ]
    return found


def draw(rows: list[dict[str, Any]], device: str, path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shown = [
        ("global_conv bcl", "circular"),
        ("global_conv bcl", "bidirectional"),
        ("global_conv blc", "circular"),
        ("naive jnp.fft", "circular"),
        ("PyTorch rfft bcl", "circular"),
        (ATTENTION, ""),
        ("jax.nn attention", ""),
        (PYTORCH_ATTENTION, ""),
        (FUSED, "circular"),
        (CUDNN_ATTENTION, ""),
    ]
    for axes, which in zip(panels, ("forward", "gradient"), strict=True):
        for method, boundary in shown:
            mine = [row for row in rows if (row["method"], row["boundary"]) == (method, boundary)]
            if not mine:
                continue
            tokens = [row["batch"] * row["length"] for row in mine]
            times = [1e9 * row[which] / n for row, n in zip(mine, tokens, strict=True)]
            style = {"ls": "--"} if "global_conv" not in method else {"lw": 2}
            axes.plot([row["length"] for row in mine], times, marker="o", ms=4, label=f"{method} {boundary}", **style)
        axes.set(xscale="log", yscale="log", xlabel="length", title={"gradient": "with gradient"}.get(which, which))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"ns a token of {CHANNELS} channels")
    panels[0].legend(frameon=False, fontsize=8)
    in_half = any("bf16" in row["method"] for row in rows)
    figure.suptitle(f"Global convolution and attention, float32{' if not bf16' if in_half else ''}, {device}")
    figure.savefig(path, dpi=130)
