"""What the plugins share. All lies flat here, since each folder on the way to a module costs a start some time.

| | |
| --- | --- |
| the protocol | `skel` `args` `types` `versions` `errors` `log` `gojson` `gosyntax` |
| other plugins | `registry` `delegate` `ipam` `verify` |
| how a plugin starts | `launch` `start_state` `lean` `background` `warm` `warm_start` `warm_caller` `warm_cgroup` |
| the kernel, by netlink | `netlink` `links` `addresses` `rules` `qdisc` `conntrack` `nftables` `tuntap` |
| the kernel, by files | `netns` `sysctl` `sysfs` `forwarding` |
| pods' interfaces | `veth` `podlink` `sublink` `tenant` `ownership` `kept_configuration` `kept_routes` |
| the bridge | `bridge_device` `bridge_check` `bridge_vlans` `gateways` `vlan_gateway` `macspoof` |
| rules and shaping | `firewall` `firewalld` `masquerade` `process` `subnet_shaping` |
| addresses and state | `ip` `ranges` `reservations` `store` `device_records` `subnet_env` `rollback` |
"""
