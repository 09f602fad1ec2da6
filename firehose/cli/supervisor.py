"""What a supervisor is told: the protocol of systemd's `Type=notify`, one datagram for each change.

Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Tell the supervisor `READY=1` or `STOPPING=1`, where one listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
