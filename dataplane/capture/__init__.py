"""`udplane capture`: `bpf` lets the kernel choose packets, `filter` reads what a user wants, `pcapng` writes them."""
