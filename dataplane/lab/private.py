"""Run a program in namespaces of its own: `python -m dataplane.lab.private PROGRAM [ARGUMENT ...]`.

The program gets a network of its own (only a loopback), a mount table of its own with an empty /run, and the rights to
build in them whatever it likes. Nothing that it makes can be seen from outside, and the kernel takes all of it away
when the last process inside ends: clean-up that cannot be forgotten.

root gets this by unshare(1) alone. An ordinary user gets it too, as root of a user namespace, wherever the kernel
allows those; where it does not, the reasons are looked up and the ways out printed.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dataplane.errors import NodeError
from dataplane.kernel.programs import complaint
from dataplane.system_path import add_system_directories

MODULE = "dataplane.lab.private"

STATE = "UDPLANE_PRIVATE"
"""Environment variable: ENTERING on the way in, INSIDE from then on, so that nobody is moved twice."""

OUTER_USERS = "UDPLANE_PRIVATE_USERS"
"""Environment variable: the user namespace that was left behind."""

ENTERING, INSIDE = "entering", "inside"

TUN_DEVICE = Path("/dev/net/tun")

USER_NAMESPACE_SYSCTLS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "10000"),
    ("user/max_net_namespaces", "0", "10000"),
    ("user/max_mnt_namespaces", "0", "10000"),
)
"""Kernel parameters that can forbid user namespaces: name, the value that forbids, one that allows."""


def inside() -> bool:
    """Whether this process runs in private namespaces already."""
    return os.environ.get(STATE) == INSIDE


def has_own_users() -> bool:
    """Whether the private namespaces came with a user namespace, which is how an ordinary user gets them."""
    return os.environ.get(OUTER_USERS) != _user_namespace()


def enter(argv: list[str]) -> int:
    """Become `argv` in private namespaces. Returns, with an exit status, only when that cannot be done."""
    if not possible():
        return 1
    flags, _ = unshare_flags()
    os.environ[OUTER_USERS] = _user_namespace()
    return _become(["unshare", *flags, "--", sys.executable, "-I", "-m", MODULE, *argv], ENTERING)


def possible() -> bool:
    """Whether this user gets private namespaces and a TUN device in them. Says why not and what helps."""
    found = obstacle()
    if found:
        _refuse(*found)
    return found is None


def obstacle() -> tuple[str, list[str]] | None:
    """What keeps this user from private namespaces or from a TUN device in them, and the ways out; None if nothing."""
    return _namespace_obstacle() or _tun_obstacle()


def unshare_flags() -> tuple[list[str], str]:
    """The flags with which unshare(1) works here, as root, else through a user namespace; or why none do."""
    private = ["--net", "--mount"]
    choices = [["--user", "--map-root-user", *private]]
    if os.geteuid() == 0:
        choices.insert(0, private)
    complaints = [complaint(["unshare", *flags, "true"]) for flags in choices]
    works = next((flags for flags, said in zip(choices, complaints, strict=True) if not said), [])
    return works, "" if works else complaints[0]


def _namespace_obstacle() -> tuple[str, list[str]] | None:
    """What keeps this user from making namespaces, and what to do about it; None when nothing does."""
    _, said = unshare_flags()
    return (f"no network namespace can be made here: {said}", _ways_to_namespaces(said)) if said else None


def _ways_to_namespaces(said: str) -> list[str]:
    """What a user who gets no namespaces can do, for the reason that unshare(1) gave."""
    if "not installed" in said:
        return ["on Debian and Ubuntu: apt-get install util-linux"]
    if "propagation" in said:
        return ["this is a chroot, whose root is no mount: run `mount --bind DIR DIR` on it before entering it"]
    ways = []
    for key, forbids, allows in USER_NAMESPACE_SYSCTLS:
        file = Path("/proc/sys", key)
        if file.exists() and file.read_text().strip() == forbids:
            ways.append(f"allow user namespaces: sudo sysctl -w {key.replace('/', '.')}={allows}")
    if os.geteuid() != 0:
        ways.append("run the same command as root")
    if "\nSeccomp:\t2" in Path("/proc/self/status").read_text():
        ways.append("a seccomp filter is on: in a container, start that with --security-opt seccomp=unconfined as well")
    ways.append(f"in a container: start it with --cap-add SYS_ADMIN,NET_ADMIN --device {TUN_DEVICE}, or --privileged")
    return ways


def _tun_obstacle() -> tuple[str, list[str]] | None:
    """What keeps this user from opening the TUN device, and what to do about it; None when nothing does."""
    try:
        os.close(os.open(TUN_DEVICE, os.O_RDWR))
    except PermissionError:
        return f"this user may not open {TUN_DEVICE}", [
            f"give it to this user: sudo setfacl -m u:$USER:rw {TUN_DEVICE}"
        ]
    except OSError as error:
        load = ["load the driver: sudo modprobe tun", f"in a container: start it with --device {TUN_DEVICE}"]
        return f"cannot open {TUN_DEVICE} ({error.strerror})", load
    return None


class ForbiddenError(NodeError):
    """This user gets no private namespaces, or no TUN device: the problem, and the ways out."""

    def __init__(self, problem: str, ways: Sequence[str]) -> None:
        super().__init__(f"{problem}. What helps:")
        self.ways = tuple(ways)

    def __str__(self) -> str:
        return "\n  - ".join([super().__str__(), *self.ways])


def _refuse(problem: str, ways: list[str]) -> int:
    print(f"udplane: {ForbiddenError(problem, ways)}", file=sys.stderr)
    return 1


def _user_namespace() -> str:
    return str(Path("/proc/self/ns/user").readlink())


def _become(argv: list[str], state: str) -> int:
    os.environ[STATE] = state
    add_system_directories()
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        return _refuse(f"cannot run {argv[0]} ({error.strerror})", ["install it, or correct its name"])


def settle() -> bool:
    """Prepare new namespaces: an empty /run, where `ip netns` keeps its names, and a loopback that is up."""
    commands = (["mount", "-t", "tmpfs", "tmpfs", "/run"], ["mkdir", "/run/netns"], ["ip", "link", "set", "lo", "up"])
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)


def main() -> int:
    """Entry point, run twice: outside it moves to private namespaces, inside it settles and becomes the program."""
    argv = sys.argv[1:]
    if not argv:
        print(f"usage: python -m {MODULE} PROGRAM [ARGUMENT ...]", file=sys.stderr)
        return 2
    state = os.environ.get(STATE)
    if state is None:
        return enter(argv)
    if state == ENTERING and not settle():
        return _refuse("cannot prepare the new namespaces, see above", ["run the same command as root"])
    return _become(argv, INSIDE)


if __name__ == "__main__":
    sys.exit(main())
