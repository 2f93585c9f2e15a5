"""Data sets: generators ▸ TFDS builders ▸ tasks ▸ the pipeline that feeds a training step."""
