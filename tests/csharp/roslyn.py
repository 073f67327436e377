"""Compiles C# with Roslyn, called through pythonnet: `roslyn.py JOBS.json`.

Runs inside the toolchain's own environment (`build.py` makes it) and imports nothing of this project. The file lists
`dotnet` (folder of the .NET runtime), `roslyn` (folder of the compiler's assemblies), `jobs`, each with `arguments` for
the C# compiler and `output`, the assembly to write, and `parse`, files of which only the syntax is checked. The jobs
are compiled in order, so that a later one may refer to an earlier one's output. Diagnostics go to stdout; the exit
status is 1 at the first job that fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def load_runtime(dotnet: Path, roslyn: Path, scratch: Path) -> Path:
    """Start the .NET runtime in this process with Roslyn loaded; returns the folder of the framework's assemblies."""
    framework = next((dotnet / "shared" / "Microsoft.NETCore.App").iterdir())
    config = scratch / "roslyn.runtimeconfig.json"
    options = {
        "tfm": "net8.0",
        "framework": {"name": "Microsoft.NETCore.App", "version": framework.name},
        "configProperties": {"System.Globalization.Invariant": True},
    }
    config.write_text(json.dumps({"runtimeOptions": options}), encoding="utf-8")
    import pythonnet

    pythonnet.load("coreclr", dotnet_root=str(dotnet), runtime_config=str(config))
    import clr

    for name in ("Microsoft.CodeAnalysis.dll", "Microsoft.CodeAnalysis.CSharp.dll"):
        clr.AddReference(str(roslyn / name))
    return framework


def compile_job(arguments: list[str], output: Path, framework: Path) -> bool:
    """Compile one assembly; print its diagnostics. Whether it succeeded."""
    from Microsoft.CodeAnalysis import DiagnosticSeverity, MetadataReference, SyntaxTree
    from Microsoft.CodeAnalysis.CSharp import CSharpCommandLineParser, CSharpCompilation, CSharpSyntaxTree
    from Microsoft.CodeAnalysis.Text import SourceText
    from System import Array, String
    from System.IO import File, FileMode, FileStream
    from System.Text import Encoding

    parsed: Any = CSharpCommandLineParser.Default.Parse(
        Array[String]([*arguments, f"-out:{output}"]), str(Path.cwd()), str(framework), None
    )
    problems = [str(error) for error in parsed.Errors]
    trees = [
        CSharpSyntaxTree.ParseText(
            SourceText.From(File.ReadAllText(source.Path), Encoding.UTF8), parsed.ParseOptions, source.Path
        )
        for source in parsed.SourceFiles
    ]
    wanted = [str(r.Reference) for r in parsed.MetadataReferences if Path(str(r.Reference)).is_file()]
    references = [MetadataReference.CreateFromFile(name) for name in [*framework_assemblies(framework), *wanted]]
    compilation = CSharpCompilation.Create(
        parsed.CompilationName,
        Array[SyntaxTree](trees),
        Array[MetadataReference](references),
        parsed.CompilationOptions,
    )
    part = f"{output}.part"
    stream = FileStream(part, FileMode.Create)
    result = compilation.Emit(stream, manifestResources=parsed.ManifestResources)
    stream.Dispose()
    problems += [str(d) for d in result.Diagnostics if d.Severity >= DiagnosticSeverity.Warning and not d.IsSuppressed]
    print(*problems[:40], sep="\n", end="\n" if problems else "")
    if result.Success:
        Path(part).replace(output)
    return bool(result.Success)


def parses(source: str) -> bool:
    """Check the syntax of one file; print what is wrong with it. Whether nothing is."""
    from Microsoft.CodeAnalysis.CSharp import CSharpParseOptions, CSharpSyntaxTree, LanguageVersion
    from Microsoft.CodeAnalysis.Text import SourceText

    options = CSharpParseOptions(LanguageVersion.CSharp10)
    tree = CSharpSyntaxTree.ParseText(SourceText.From(Path(source).read_text(encoding="utf-8")), options, source)
    problems = [str(problem) for problem in tree.GetDiagnostics()]
    print(*problems, sep="\n", end="\n" if problems else "")
    return not problems


def framework_assemblies(framework: Path) -> list[str]:
    """The managed assemblies that a program may refer to."""
    names = [path.name for path in framework.glob("*.dll")]
    managed = [n for n in names if n.startswith("System.") or n in ("mscorlib.dll", "netstandard.dll")]
    return [str(framework / name) for name in sorted(managed) if ".Native" not in name]


def main() -> int:
    """Compile every job of the file that is named on the command line."""
    path = Path(sys.argv[1])
    order = json.loads(path.read_text(encoding="utf-8"))
    framework = load_runtime(Path(order["dotnet"]), Path(order["roslyn"]), path.parent)
    for job in order["jobs"]:
        if not compile_job(job["arguments"], Path(job["output"]), framework):
            print(f"FAILED {job['output']}")
            return 1
    broken = [source for source in order["parse"] if not parses(source)]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
