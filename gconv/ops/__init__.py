"""Pure functions of arrays: the global convolution, attention, and what they cost."""
