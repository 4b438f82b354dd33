"""What the plugins share: the CNI protocol, the kernel by netlink, state on disk, firewall rules."""
