"""One trainer for every task and mixer. `loop.py` is the whole run, `step.py` the gradient step."""
