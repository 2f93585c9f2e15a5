"""gconv: can self-attention be replaced with a global depthwise convolution?

`gconv.ops.global_conv` is the operator, `gconv.GlobalConv` its Flax layer; `python -m gconv.main` trains and compares.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gconv.models.mixers import GlobalConv

__version__ = "0.1.0"
__all__ = ["GlobalConv"]


def __getattr__(name: str) -> Any:
    if name == "GlobalConv":  # imported on first use: a process that only prepares data loads neither JAX nor Flax
        from gconv.models.mixers import GlobalConv

        return GlobalConv
    raise AttributeError(f"module 'gconv' has no attribute {name!r}")
