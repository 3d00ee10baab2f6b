"""This machine -> its name and the address at which others of the fleet reach it."""

from __future__ import annotations

import ipaddress
import socket

from runner.errors import UsageError

# TEST-NET-1 (RFC 5737): nothing is sent, the kernel only says which address it would use.
_ANYWHERE = "192.0.2.1"
_PORT = 9


def host_name() -> str:
    """The short host name: slurmctld goes by it."""
    return socket.gethostname().partition(".")[0]


def of_head() -> str:
    """The address that the host's name has, unless that is a loopback, else that of the way out. Raises UsageError."""
    for find, given in ((_named, socket.gethostname()), (_towards, _ANYWHERE)):
        try:
            return find(given)
        except OSError:
            continue
    raise UsageError(
        "no address was found at which other hosts reach this one",
        tip="pushtrain agent start --head --address A",
    )


def of_member(head: str) -> str:
    """The address from which this machine reaches the head. Raises UsageError."""
    try:
        return _towards(head)
    except OSError as error:
        raise UsageError(
            f"there is no way from here to the head {head}: {error.strerror}",
            tip="check the network between the two, or name this host's own address with --address",
        ) from None


def of_former(address: str, *, head: str) -> str:
    """The address that was found before, while this machine has it or no way to the head; then the one it has now."""
    try:
        return address if _is_here(address) else of_member(head)
    except UsageError:
        return address


def resolve(host: str) -> str:
    """The IPv4 address of a name or of itself. Raises UsageError."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        pass
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise UsageError(f"there is no host {host}", tip="name the head by its address") from None


def own(given: str) -> str:
    """The IPv4 address of a name or of itself, which has to be this machine's. Raises UsageError."""
    try:
        address = socket.gethostbyname(given) if given else ""
    except (OSError, UnicodeError):
        address = ""
    if not address:
        raise UsageError(
            f"--address {given!r}: expected an IPv4 address of this machine, or a name that has one", tip=_OWN
        )
    found = ipaddress.IPv4Address(address)
    if found.is_unspecified or found.is_multicast or not _is_here(address):
        also = f" ({address})" if address != given else ""
        raise UsageError(f"--address {given}{also}: it is none of this machine's addresses", tip=_OWN)
    return address


_OWN = "ip -4 addr lists them; without --address one is found"


def _is_here(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
            # A broadcast address can be bound to.
            probe.connect((address, _PORT))
        except OSError:
            return False
    return True


def _named(name: str) -> str:
    found = socket.gethostbyname(name)
    if ipaddress.ip_address(found).is_loopback:
        raise OSError("a loopback")
    return found


def _towards(host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, _PORT))
        return str(probe.getsockname()[0])
