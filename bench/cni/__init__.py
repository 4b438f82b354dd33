"""The CNI plugins timed beside the official Go plugins: `python -m bench.cni`."""
