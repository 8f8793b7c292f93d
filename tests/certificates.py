"""An authority for tests, and certificates it signed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


class Authority:
    """Signs certificates: ``names[0]``.pem and .key in its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._openssl("req", "-x509", *self._new("ca", "the authority"), "-days", "2")

    def sign(self, name: str, extension: str) -> None:
        (self.directory / f"{name}.ext").write_text(extension + "\n")
        self._openssl("req", *self._new(name, name, out="csr"))
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        )

    def file(self, name: str) -> str:
        return str(self.directory / name)

    def _new(self, name: str, subject: str, out: str = "pem") -> tuple[str, ...]:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        return (*key, "-subj", f"/CN={subject}", "-out", f"{name}.{out}")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=60
        )
