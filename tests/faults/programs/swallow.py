"""Have all packets to some addresses vanish: `swallow.py add|delete ADDRESS...`.

The neighbour table of the network namespace that this runs in gets an entry for each address that
leads nowhere (SIOCSARP, Linux arp(7)). So packets leave and nobody takes them: no error, no RST.
"""

import fcntl
import socket
import struct
import sys

_SIOCSARP, _SIOCDARP = 0x8955, 0x8953
_COMPLETE, _PERMANENT = 0x02, 0x04
_ETHERNET = 1
_NOWHERE = bytes([0x02, 0, 0, 0, 0, 0x01])  # a locally administered address that nobody has
_DEVICE = b"eth0"


def main(what: str, *addresses: str) -> None:
    """Add the entries, or delete them."""
    request = {"add": _SIOCSARP, "delete": _SIOCDARP}[what]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for address in addresses:
            protocol = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            hardware = struct.pack("H14s", _ETHERNET, _NOWHERE)
            rest = struct.pack("i16s16s", _COMPLETE | _PERMANENT, b"", _DEVICE)
            fcntl.ioctl(any_socket, request, protocol + hardware + rest)


if __name__ == "__main__":
    main(*sys.argv[1:])
