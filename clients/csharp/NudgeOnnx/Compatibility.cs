using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("NudgeOnnx.Conformance")]

#if !NET5_0_OR_GREATER
namespace System.Runtime.CompilerServices
{
    /// <summary>What the compiler asks for to allow <c>init</c> and records on .NET Standard 2.1.</summary>
    internal static class IsExternalInit
    {
    }
}
#endif
