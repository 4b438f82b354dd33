"""Benchmarks: two nodes end to end (`./dev bench`), the CNI plugins (bench/cni), single steps (bench/micro)."""
