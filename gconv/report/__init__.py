"""A run, or several, as a page and as text: `runs.py` reads and tabulates, `chart.py` and `page.py` draw."""
