"""A network namespace of its own, joined to this one by a cable that can be cut."""

from __future__ import annotations

import os
import subprocess


class Namespace:
    """A namespace and a pair of virtual Ethernet devices; needs the right to make them.

    Attributes:
        address: Of this end of the cable: where to reach us from the namespace.
    """

    def __init__(self) -> None:
        number = os.getpid()
        self._name = f"edgeasd-{number}"
        self._device, peer = f"ea{number}a", f"ea{number}b"
        # One of the networks for benchmarks, which nobody routes: RFC 2544.
        prefix = f"198.18.{number % 256}"
        self.address = f"{prefix}.1"
        _ip("netns", "add", self._name)
        _ip("link", "add", self._device, "type", "veth", "peer", "name", peer)
        _ip("link", "set", peer, "netns", self._name)
        _ip("address", "add", f"{self.address}/24", "dev", self._device)
        _ip("link", "set", self._device, "up")
        _ip("-n", self._name, "address", "add", f"{prefix}.2/24", "dev", peer)
        _ip("-n", self._name, "link", "set", peer, "up")

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs *arguments* in the namespace."""
        return ["ip", "netns", "exec", self._name, *arguments]

    def cut(self) -> None:
        """Let nothing through, and tell nobody."""
        _ip("link", "set", self._device, "down")

    def mend(self) -> None:
        """Let everything through again."""
        _ip("link", "set", self._device, "up")

    def remove(self) -> None:
        """Take everything back; the other device goes with this one."""
        _ip("link", "delete", self._device)
        _ip("netns", "delete", self._name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
