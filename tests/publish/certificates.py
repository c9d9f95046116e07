"""Certificates for the tests, made by the openssl command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("plain", "with key usage", "version 1", "intermediate", "the broker's own")
"""Kinds of authorities that operators name for their brokers."""

_NAMES = "subjectAltName = DNS:{host}, IP:127.0.0.1"
_CA_EXTENSIONS = {
    "with key usage": "keyUsage = critical, keyCertSign, cRLSign",
    "the broker's own": _NAMES.format(host="localhost"),
}


class Authority:
    """A certificate authority of its own in *folder*.

    Args:
        folder: For its files; made here.
        kind: One of `KINDS`.  ``plain`` is what ``openssl req -x509`` makes.
    """

    def __init__(self, folder: Path, kind: str = "plain") -> None:
        folder.mkdir()
        self._folder = folder
        self._kind = kind
        self.ca_file = folder / "ca.pem"
        self._ca_key = folder / "ca.key"
        if kind in {"version 1", "intermediate"}:
            request = folder / "ca.csr"
            _openssl("req", *_key(self._ca_key), "-out", request, "-subj", "/CN=test CA")
            if kind == "version 1":
                _openssl(
                    *("x509", "-req", "-in", request, "-signkey", self._ca_key),
                    *("-out", self.ca_file),
                )
            else:
                root = Authority(folder / "root")
                root.sign(request, self.ca_file, 1, "basicConstraints = CA:TRUE")
            return
        extension = _CA_EXTENSIONS.get(kind)
        _openssl(
            *("req", "-x509", *_key(self._ca_key), "-out", self.ca_file, "-subj", "/CN=test CA"),
            *(("-addext", extension) if extension else ()),
        )

    def issue(self, name: str, host: str, days: int = 1) -> tuple[Path, Path]:
        """Return certificate and key of *host*, in files called *name*; valid for *days*."""
        if self._kind == "the broker's own":
            return self.ca_file, self._ca_key
        certificate, key, request = (
            self._folder / f"{name}.{suffix}" for suffix in ("pem", "key", "csr")
        )
        _openssl("req", *_key(key), "-out", request, "-subj", f"/CN={host}")
        names = _NAMES.format(host=host)
        if self._kind == "with key usage":
            # What strict verification asks for besides.
            names += "\nauthorityKeyIdentifier = keyid"
        self.sign(request, certificate, days, names)
        return certificate, key

    def sign(self, request: Path, certificate: Path, days: int, extensions: str) -> None:
        """Make the *certificate* that is asked for in *request*."""
        extension_file = request.with_suffix(".ext")
        extension_file.write_text(f"{extensions}\n")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca_file, "-CAkey", self._ca_key),
            *("-CAcreateserial", "-days", str(days), "-extfile", extension_file),
            *("-out", certificate),
        )

    def encrypted(self, key: Path) -> Path:
        """Return a copy of *key* that needs a password."""
        copy = key.with_suffix(".encrypted")
        _openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", copy)
        return copy


def _key(path: Path) -> tuple[str | Path, ...]:
    return (
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-keyout", path),
    )


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
