"""Giving up what a node does not need: started by root, it has every capability of the machine.

A node parses what strangers send to it, so a hole in it must not be a hole in the host. `drop_privileges` keeps

| capability | for |
| --- | --- |
| CAP_NET_ADMIN | devices, addresses, routes, rules, kernel parameters below /proc/sys/net, socket buffers |
| CAP_NET_RAW | iptables(8), and captures |
| CAP_SYS_NICE | the offload `realtime` |
| CAP_NET_BIND_SERVICE | ports below 1024, since the network config may name one |
| CAP_DAC_OVERRIDE | files of other users, if a flag names one |

and takes all others from this process and whatever it starts (capabilities(7)), which can gain none either
(PR_SET_NO_NEW_PRIVS). A user other than root has what its service manager gave it, and keeps it. System calls are
filtered by the unit in deploy/systemd, by systemd's own sets; a list of the node's own would have to allow nft(8) and
iptables(8) all that they may ever need.
"""

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from dataplane.engines.registry import kind_of
from dataplane.options import NodeOptions
from dataplane.stores.base import StoreOptions
from dataplane.stores.registry import file_of

CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_NICE = 1, 10, 12, 13, 23

# include/uapi/linux/prctl.h, capability.h
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 23, 24, 38, 47, 4
_CAPABILITY_VERSION = 0x20080522
_MOST_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


def drop_privileges(options: NodeOptions, store_options: StoreOptions) -> None:
    """Keep what a node with these flags needs.

    To be called before there are other threads, since capabilities are a thread's. What this process may not give up
    it keeps: it has been shut in already.
    """
    if os.geteuid() != 0:
        return
    kept = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE}
    if kind_of(options.engine).has_loop and "realtime" not in options.no_offload:
        kept.add(CAP_SYS_NICE)
    if any(map(_is_of_another_user, _files(options, store_options))):
        kept.add(CAP_DAC_OVERRIDE)
    for capability in range(_MOST_CAPABILITIES):
        if capability not in kept and _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _keep(sum(1 << capability for capability in kept))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _keep(mask: int) -> None:
    """Have no capabilities but those of `mask`, as far as they are here."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    data = ctypes.create_string_buffer(24)  # two structs of effective, permitted and inheritable, low words first
    if _libc.capget(header, data):
        return
    words = list(struct.unpack("=6I", data.raw))
    for i, kept in enumerate((mask & 0xFFFFFFFF, mask >> 32)):
        words[3 * i : 3 * i + 3] = [words[3 * i] & kept, words[3 * i + 1] & kept, 0]
    _libc.capset(header, struct.pack("=6I", *words))


def _files(options: NodeOptions, store_options: StoreOptions) -> Iterator[Path]:
    """The files that flags name."""
    yield from (options.subnet_file, options.run_dir)
    stored = [store_options.etcd_certfile, store_options.etcd_keyfile, store_options.etcd_cafile]
    named = [*stored, store_options.kubeconfig_file, options.net_config_path, file_of(options.store)]
    yield from (Path(name).absolute() for name in named if name)


def _is_of_another_user(path: Path) -> bool:
    """Whether root needs a privilege for the file, or for the directory in which it is to be made."""
    for place in (path, *path.parents):
        try:
            return place.stat().st_uid != 0
        except OSError:
            continue
    return False
