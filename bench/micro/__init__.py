"""Single steps, timed by pytest-benchmark: `python -m pytest bench/micro --benchmark-group-by=group`."""
