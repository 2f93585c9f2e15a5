"""Pure functions of arrays: the global convolution, attention, and what they cost."""

from gconv.ops.convolution import global_conv

__all__ = ["global_conv"]
