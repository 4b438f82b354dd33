"""Bytes a second that the Internet checksum takes in C, by length: a header, a full packet, a super-packet."""

import pytest
from dataplane._native import ffi, lib
from pytest_benchmark.fixture import BenchmarkFixture

DATA = bytes(range(256)) * 256


@pytest.mark.parametrize("length", [20, 1472, 65_535])
def test_checksum(benchmark: BenchmarkFixture, length: int) -> None:
    """One call, as it is made for each header or payload."""
    benchmark.group = f"checksum, {ffi.string(lib.dp_checksum_variant()).decode()}"
    benchmark(lib.dp_checksum, ffi.from_buffer(DATA), length)
    assert benchmark.stats is not None
    benchmark.extra_info["GB/s"] = length / benchmark.stats["median"] / 1e9
