"""The host's kernel: what a node sets up there, looks after, and takes away.

`wishes` is the one description of all that; `device`, `firewall` and the backends make wishes. Below them `rtnetlink`
and `netdev` speak netlink, `nft_rules` and `iptables_rules` write `rules` down for two programs, `netns` moves between
namespaces. `leftovers` is what stays after a stop, `removal` takes it away.
"""
