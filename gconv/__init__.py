"""gconv: can self-attention be replaced with a global depthwise convolution?

`gconv.ops.global_conv` is the operator, `gconv.GlobalConv` its Flax layer; `python -m gconv.main` trains and compares.
`gconv.load` gives the trained model of a run.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gconv.models.mixers import GlobalConv
    from gconv.training.trained import load

__version__ = "0.1.0"
__all__ = ["GlobalConv", "load"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name == "GlobalConv":  # imported on first use: a process that only prepares data loads neither JAX nor Flax
        from gconv.models.mixers import GlobalConv

        return GlobalConv
    if name == "load":
        from gconv.training.trained import load

        return load
    raise AttributeError(f"module 'gconv' has no attribute {name!r}")
