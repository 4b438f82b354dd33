"""Who owns which subnet, without input or output.

`lease` is one node's claim and `table` those of all, which pass the `gate` first; `keeper` says when the own one is to
be renewed, `allocation` which subnet is free. `network_config` is flannel's net-conf, `gojson` reads JSON as Go does.
"""
