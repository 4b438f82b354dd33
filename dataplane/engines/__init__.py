"""The engines: python (the textbook), numpy (a batch per step), native (C). `registry` loads them by name."""
