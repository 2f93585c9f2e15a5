"""Set before JAX is imported: one compilation cache for all tests and the processes they start, and quick compiling.

XLA's passes over the graph are those of every run; the machine code that is made of it has no more effort than it needs
to be right. A test runs it for a moment, and compiling is most of what a test takes.
"""

import os
from importlib import metadata
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if metadata.version("jaxlib").startswith("0.10."):  # later ones have no older code generator, which takes half as long
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS)
