"""Data that is made from a seed: plain Python and NumPy, no framework, so that worker processes start at once."""
