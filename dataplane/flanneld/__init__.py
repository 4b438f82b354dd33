"""`udplane flanneld`: the node behind flannel's own command line, for hosts where it takes flanneld's place.

An adapter and nothing else. It reads flannel's flags in Go's syntax and FLANNELD_* variables (`goflags`, `options`),
says in the node's terms what they mean (`translate`, `interface`), answers health checks in flannel's words and runs
the node (`command`). No module of the node knows of this package.
"""
