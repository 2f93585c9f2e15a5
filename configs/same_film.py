"""Same film: whether two IMDb reviews, read as bytes, are of the same film (reviews of Maas et al. 2011).

    python -m gconv.main --config=configs/same_film.py:gconv --workdir=runs/same_film_gconv

A substitute for LRA's Retrieval, whose documents can't be had without LRA's release: real text, the same form, and no
measure of Retrieval. The reviews are downloaded the first time (84 MB), or prepared from the archive in a folder of
yours: python -m gconv.prepare same_film --source=DIR. Reviews are cut at 4,000 bytes.

published test accuracy (%): none, the task is this repository's own. Guessing scores 50.
expected time: the full 50,000 steps need an accelerator and have not been run here; a 2-core CPU would take weeks.
  :MIXER,smoke  under a minute on a CPU, on made-up pairs.

The recipes, and the two towers, are those of configs/retrieval.py.
"""

from ml_collections import ConfigDict

from configs import retrieval


def get_config(arg: str | None = None) -> ConfigDict:
    config = retrieval.get_config(arg)
    config.data.name = "same_film"
    return config
