"""Installs what the tests run in Node, into `.cache/node`: `package-lock.json` says which versions, by their hashes."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

__all__ = ["HERE", "chromium", "installed"]

HERE = Path(__file__).resolve().parent
_CACHE = HERE.parents[1] / ".cache" / "node"
_UNPACK = """
const fs = require("fs"), zlib = require("zlib");
const [from, to] = process.argv.slice(1);
for (const name of ["chromium", "al2023.tar", "swiftshader.tar"])
  fs.writeFileSync(`${to}/${name}`, zlib.brotliDecompressSync(fs.readFileSync(`${from}/${name}.br`)), { mode: 0o755 });
"""


def installed() -> Path:
    """The folder that holds `node_modules`. Nothing that is fetched runs while it is installed."""
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = _CACHE / wanted
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            part = _CACHE / f"{wanted}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, part)
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], part)
            browser = part / "chromium"
            browser.mkdir()
            packed = part / "node_modules" / "@sparticuz" / "chromium" / "bin"
            _run(["node", "-e", _UNPACK, str(packed), str(browser)], part)
            for archive in sorted(browser.glob("*.tar")):
                _run(["tar", "xf", archive.name], browser)
                archive.unlink()
            part.rename(folder)
    return folder


def chromium() -> tuple[Path, Path]:
    """A headless Chromium, and the folder of the libraries that it needs."""
    folder = installed() / "chromium"
    return folder / "chromium", folder / "lib"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr or done.stdout}"
