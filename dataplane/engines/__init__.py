"""The engines: python (the textbook), numpy (a batch per step), native (C). `contract` loads them by name."""
