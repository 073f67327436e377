using System;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.ML.OnnxRuntime;
using NudgeOnnx.Bundles;

namespace NudgeOnnx.Inference
{
    /// <summary>
    /// Remembers from one load to the next which passes share bits: one small file an answer, kept with all that it depends on
    /// and believed for nothing else. A file that cannot be read or written means only that the model is asked again.
    /// </summary>
    internal sealed class RowMemory
    {
        private const string FolderVariable = "NUDGE_ONNX_CACHE";

        private readonly string? _path;
        private readonly string _dependsOn;

        internal RowMemory(Bundle bundle, ModelRecord record, string provider, LoadOptions options)
        {
            var files = new[] { record.Graph }.Concat(record.ExternalData)
                .Select(file => $"{file} {bundle.Manifest.Files[file].Sha256}");
            var providers = options.Providers.Select(name => options.ProviderOptions.TryGetValue(name, out var given)
                ? $"{name} {string.Join(" ", given.OrderBy(one => one.Key, StringComparer.Ordinal).Select(one => $"{one.Key}={one.Value}"))}"
                : name);
            var facts = files.Concat(providers).Concat(new[]
            {
                "probe 2",
                record.Cache.ToString(),
                $"context {record.ContextLength}, prompt {record.PromptRows}",
                "windows " + (record.Windows is null ? "not known" : string.Join(" ", record.Windows)),
                $"onnxruntime {OrtEnv.Instance().GetVersionString()}, {provider}",
                // A product may be cut by rows for threads, and the number of these is the system's where none is given.
                $"threads {options.Threads?.ToString() ?? $"of {Environment.ProcessorCount} cores"}",
                Processor(),
            });
            _dependsOn = string.Join("\n", facts);
            using var hash = SHA256.Create();
            var key = string.Concat(hash.ComputeHash(Encoding.UTF8.GetBytes(_dependsOn)).Take(12).Select(one => one.ToString("x2")));
            var folder = options.CacheFolder ?? UserFolder();
            _path = folder is null ? null : Path.Combine(folder, $"rows-{key}.txt");
        }

        /// <summary>The answer that was kept; <c>null</c> where there is none to believe.</summary>
        internal RowBits? Get()
        {
            try
            {
                var lines = _path is null ? new string[0] : File.ReadAllText(_path).Split(new[] { '\n' }, 2);
                return lines.Length == 2 && lines[1] == _dependsOn && Enum.TryParse<RowBits>(lines[0], out var found)
                    && Enum.IsDefined(typeof(RowBits), found) ? found : (RowBits?)null;
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                return null;
            }
        }

        /// <summary>Keep an answer: written beside and renamed, so that another process may do the same.</summary>
        internal void Put(RowBits rows)
        {
            if (_path is null)
            {
                return;
            }
            var beside = $"{_path}.{Guid.NewGuid():N}";
            try
            {
                Directory.CreateDirectory(Path.GetDirectoryName(_path)!);
                File.WriteAllText(beside, $"{rows}\n{_dependsOn}");
                if (File.Exists(_path))
                {
                    File.Replace(beside, _path, null);
                }
                else
                {
                    File.Move(beside, _path);
                }
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                Forget(beside);
            }
        }

        private static void Forget(string path)
        {
            try
            {
                File.Delete(path);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                // It will be in nobody's way.
            }
        }

        private static string? UserFolder()
        {
            if (Environment.GetEnvironmentVariable(FolderVariable) is { Length: > 0 } named)
            {
                return named;
            }
            var caches = Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData);
            var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
            if (!RuntimeInformation.IsOSPlatform(OSPlatform.Windows))
            {
                var wanted = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
                var usual = RuntimeInformation.IsOSPlatform(OSPlatform.OSX) ? Path.Combine("Library", "Caches") : ".cache";
                // The specification has relative paths ignored.
                caches = wanted != null && Path.IsPathRooted(wanted) ? wanted
                    : home.Length > 0 ? Path.Combine(home, usual) : "";
            }
            return caches.Length > 0 ? Path.Combine(caches, "nudge-onnx") : null;
        }

        /// <summary>Architecture, model and instruction sets of the processor, as far as the system tells.</summary>
        private static string Processor()
        {
            var known = $"{RuntimeInformation.OSDescription} {RuntimeInformation.ProcessArchitecture} "
                + Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER");
            try
            {
                var wanted = new[] { "model name", "flags", "Features", "CPU part" };
                var lines = File.ReadAllLines("/proc/cpuinfo"); // Linux only
                return known + string.Concat(wanted.Select(label => " | " + lines.FirstOrDefault(line => line.StartsWith(label))));
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                return known;
            }
        }
    }
}
