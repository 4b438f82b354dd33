"""static: address management that hands out what the configuration says, and keeps no state.

The addresses come from `ipam.addresses`, from IP and GATEWAY in CNI_ARGS (added to them), or from `args.cni.ips` or
`runtimeConfig.ips`, which replace them, the latter last.
"""

from __future__ import annotations

from cni.lib.args import parse_args
from cni.lib.errors import CniError
from cni.lib.gojson import Fields
from cni.lib.ip import IPNet, format_ip, parse_cidr, parse_ip
from cni.lib.skel import Call, Plugin, main
from cni.lib.types import DNS, IPConfig, Result, Route, read_ip
from cni.lib.versions import at_least


def add(call: Call) -> Result:
    """The configured addresses, routes and DNS settings."""
    result = Result()
    ipam, result.ips = load(call)
    result.routes = Route.read_all(ipam)
    result.dns = DNS.read(ipam.child("dns", "DNS", "types.DNS"))
    return result


def check(call: Call) -> None:
    """Every configured address that the earlier result has must have kept its gateway."""
    _, configured = load(call)
    previous = call.prev_result()
    if previous is None:
        raise CniError("Required prevResult missing")
    for wanted in configured:
        for found in previous.ips:
            if wanted.address.ip == found.address.ip and wanted.gateway not in (None, found.gateway):
                address = format_ip(found.address.ip)
                raise CniError(f"static: Failed to match addr {address} on interface {call.ifname}")


def load(call: Call) -> tuple[Fields, list[IPConfig]]:
    """The `ipam` section and the addresses to hand out."""
    fields = call.fields("Net")
    ipam = fields.child("ipam", "IPAMConfig", "main.IPAMConfig")
    environment = parse_args(call, ("IP", "GATEWAY"))
    if ipam is None:
        raise CniError("IPAM config missing 'ipam' key")
    section = fields.child("args", "Args")
    section = section and section.child("cni", "IPAMArgs")
    runtime = fields.child("runtimeConfig", "RuntimeConfig")
    replacement = (runtime and runtime.texts("ips")) or (section and section.texts("ips"))
    if replacement:
        configs = [IPConfig(_cidr(text, "an entry in the 'ips' field is NOT")) for text in replacement]
    else:
        configs = [
            IPConfig(_cidr(item.text("address"), "the 'address' field is expected to be"), read_ip(item, "gateway"))
            for item in ipam.children("addresses", "Address", "main.Address")
        ]
        _add_from_environment(configs, environment)
    _refuse_many_per_family(call, configs)
    return ipam, configs


def _cidr(text: str, complaint: str) -> IPNet:
    net = parse_cidr(text)
    if net is None:
        raise CniError(f"{complaint} in CIDR notation, got: '{text}'")
    return net


def _add_from_environment(configs: list[IPConfig], environment: dict[str, str]) -> None:
    """CNI_ARGS IP=cidr,cidr adds addresses; GATEWAY=ip,ip gives every address of that subnet its gateway."""
    if environment.get("IP"):
        texts = environment["IP"].split(",")
        configs += [IPConfig(_cidr(text.strip(), "the 'ip' field is expected to be")) for text in texts]
    for text in environment["GATEWAY"].split(",") if environment.get("GATEWAY") else []:
        gateway = parse_ip(text.strip())
        if gateway is None:
            raise CniError(f"invalid gateway address: {text}")
        for config in configs:
            if config.address.contains(gateway):
                config.gateway = gateway


def _refuse_many_per_family(call: Call, configs: list[IPConfig]) -> None:
    """Results before 0.3.0 have room for one address of each family."""
    lengths = [len(config.address.ip) for config in configs]
    if max(lengths.count(4), lengths.count(16)) > 1 and not at_least(call.version, "0.3.0"):
        version = call.fields().text("cniVersion")
        raise CniError(f"CNI version {version} does not support more than 1 address per family")


def nothing(call: Call) -> None:
    """DEL, GC, STATUS: nothing is kept and nothing is needed."""


PLUGIN = Plugin("static", add=add, delete=nothing, check=check, gc=nothing, status=nothing)

if __name__ == "__main__":
    main(PLUGIN)
