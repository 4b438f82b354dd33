"""What a network configuration says of DHCP options: those to send (`provide`) and those to ask for (`request`).

    "ipam": {"type": "dhcp",
             "provide": [{"option": "12", "value": "web"}, {"option": "host-name", "fromArg": "K8S_POD_NAME"}],
             "request": [{"skipDefault": true}, {"option": "121"}]}

An option is named by its number or by one of a few names of dhcp-options(5). The subnet mask and the router are
always asked for unless `skipDefault` says otherwise.
"""

from __future__ import annotations

from cni.dhcp.message import Option
from cni.lib.errors import CniError
from cni.lib.gojson import Fields, dumps

_NAMES = {
    "dhcp-client-identifier": Option.CLIENT_ID,
    "subnet-mask": Option.SUBNET_MASK,
    "routers": Option.ROUTER,
    "host-name": Option.HOST_NAME,
    "user-class": Option.USER_CLASS,
    "vendor-class-identifier": Option.VENDOR_CLASS,
}
_DEFAULT_REQUEST = (Option.SUBNET_MASK, Option.ROUTER)
_MAX_VALUE_LEN = 255
_MAX_CLIENT_ID_LEN = 254  # the type byte in front makes it 255, the most an option holds


def default_client_id(container_id: str, network: str, ifname: str) -> bytes:
    """The client identifier (option 61): type 0, then the attachment's name, as the official daemon sends it."""
    return b"\0" + f"{container_id}/{network}/{ifname}".encode()[:_MAX_CLIENT_ID_LEN]


def read_provided(ipam: Fields, cni_args: str) -> dict[int, bytes]:
    """The options to send, from the ipam section and CNI_ARGS. Raises CniError with the official texts."""
    arguments = dict(pair.split("=", 1) for pair in cni_args.split(";") if "=" in pair)
    provided: dict[int, bytes] = {}
    for item in ipam.children("provide", "ProvideOption", "main.ProvideOption"):
        name, value, argument = item.text("option"), item.text("value"), item.text("fromArg")
        code = _option_code(name)
        if value:
            provided[code] = _checked(value, f"value too long for option {dumps(name)}: ")
        if argument in arguments:
            prefix = f"value too long for option {dumps(name)} from CNI_ARGS {dumps(argument)}: "
            provided[code] = _checked(arguments[argument], prefix)
    return provided


def read_requested(ipam: Fields) -> tuple[int, ...]:
    """The codes of the options to ask for. An entry that says only skipDefault names no option."""
    items = ipam.children("request", "RequestOption", "main.RequestOption")
    skip_default = any(item.flag("skipDefault") for item in items)
    named = [item.text("option") for item in items]
    asked = [
        _option_code(name) for name, item in zip(named, items, strict=True) if name or not item.flag("skipDefault")
    ]
    return tuple(dict.fromkeys(asked if skip_default else [*asked, *_DEFAULT_REQUEST]))


def _option_code(name: str) -> int:
    if name in _NAMES:
        return _NAMES[name]
    reason = ""
    if not (name.isascii() and name.isdigit()):
        reason = "invalid syntax"
    elif int(name) > 255:
        reason = "value out of range"
    if reason:
        quoted = dumps(name)
        problem = f"Can not parse option: strconv.ParseUint: parsing {quoted}: {reason}"
        raise CniError(f"Can not parse option {quoted}: {problem}")
    return int(name)


def _checked(value: str, complaint: str) -> bytes:
    data = value.encode()
    if len(data) > _MAX_VALUE_LEN:
        raise CniError(complaint + dumps(value))
    return data
