"""Certificates for the tests, made by the openssl command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """A certificate authority of its own in *folder*."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self._ca_key = folder / "ca.key"
        _openssl("req", "-x509", *_key(self._ca_key), "-out", self.ca_file, "-subj", "/CN=test CA")

    def issue(self, name: str, host: str, days: int = 1) -> tuple[Path, Path]:
        """Return certificate and key of *host*, in files called *name*; valid for *days*."""
        certificate, key, request = (
            self._folder / f"{name}.{suffix}" for suffix in ("pem", "key", "csr")
        )
        names = self._folder / f"{name}.ext"
        names.write_text(f"subjectAltName = DNS:{host}, IP:127.0.0.1\n")
        _openssl("req", *_key(key), "-out", request, "-subj", f"/CN={host}")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca_file, "-CAkey", self._ca_key),
            *("-CAcreateserial", "-days", str(days), "-extfile", names, "-out", certificate),
        )
        return certificate, key

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
