"""A running node: `node` puts it together.

`membership` keeps the lease and hears of the others', `host` sets up this machine, `control` answers on a socket what
`status` knows, `run_directory` and `subnet_file` hold what outlives the process, `privileges` gives up what a node does
without, `systemd` is told how it goes.
"""
