using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace NudgeOnnx.Bundles
{
    /// <summary>Symbolic links inside a bundle.</summary>
    internal static class Links
    {
        /// <summary>
        /// Whether a path below <paramref name="folder"/> leads out of it by a link. .NET Standard cannot follow links:
        /// there every link counts as leading out.
        /// </summary>
        internal static bool Leave(string folder, IEnumerable<string> parts)
        {
            var root = Real(Path.GetFullPath(folder));
            var path = root;
            foreach (var part in parts.Where(part => part.Length > 0 && part != "."))
            {
                path = Path.Combine(path, part);
                if (!IsLink(path))
                {
                    continue;
                }
                path = Real(path);
                if (IsLink(path) || !(path + Path.DirectorySeparatorChar).StartsWith(
                    root + Path.DirectorySeparatorChar, StringComparison.Ordinal))
                {
                    return true;
                }
            }
            return false;
        }

        /// <summary>The size of a file, of the target where it is a link.</summary>
        internal static long Size(FileInfo file)
        {
            using var stream = file.OpenRead();
            return stream.Length;
        }

        private static bool IsLink(string path) =>
            (File.Exists(path) || Directory.Exists(path))
            && (File.GetAttributes(path) & FileAttributes.ReparsePoint) != 0;

#if NET6_0_OR_GREATER
        /// <summary>A full path with every link in it followed.</summary>
        private static string Real(string path)
        {
            var parent = Path.GetDirectoryName(path);
            if (parent is null)
            {
                return path;
            }
            path = Path.Combine(Real(parent), Path.GetFileName(path));
            if (!IsLink(path))
            {
                return path;
            }
            FileSystemInfo info = Directory.Exists(path) ? new DirectoryInfo(path) : new FileInfo(path);
            var target = info.ResolveLinkTarget(returnFinalTarget: true);
            return target is null ? path : Real(Path.GetFullPath(target.FullName));
        }
#else
        private static string Real(string path) => path;
#endif
    }
}
