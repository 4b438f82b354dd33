"""The engines: python (the textbook), numpy (a batch per step), native (C). `dataplane.engine` loads them by name."""
