"""Packets that leave at once.

Streamlit opens its server's socket without naming TCP, and asyncio switches Nagle's algorithm off only where it is named. So
every small message would wait until the browser has said that it got the last one, which browsers put off for 40 ms: at
every file that is fetched, and several times at each move of a dial.
"""

import os
import socket

_DESCRIPTORS = "/dev/fd"


def set_tcp_nodelay() -> int:
    """Switch it off for every socket on which this process listens, and so for all that they accept; gives how many.

    Where the system does not list a process's files nothing is changed.
    """
    changed = 0
    for name in os.listdir(_DESCRIPTORS) if os.path.isdir(_DESCRIPTORS) else ():
        try:
            # A copy of the descriptor: closing it leaves the server's own open.
            descriptor = os.dup(int(name))
        except (OSError, ValueError):
            continue
        try:
            listening = socket.socket(fileno=descriptor)
        except OSError:
            os.close(descriptor)
            continue
        with listening:
            if listening.family in (socket.AF_INET, socket.AF_INET6) and listening.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                changed += 1
    return changed
