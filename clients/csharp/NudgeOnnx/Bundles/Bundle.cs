using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;

namespace NudgeOnnx.Bundles
{
    /// <summary>An opened bundle: its folder and its manifest. Nothing in it is executed.</summary>
    public sealed class Bundle
    {
        private Bundle(string folder, Manifest manifest)
        {
            Folder = folder;
            Manifest = manifest;
        }

        /// <summary>The bundle's folder.</summary>
        public string Folder { get; }

        /// <summary>The content of its <c>nudge.json</c>.</summary>
        public Manifest Manifest { get; }

        /// <summary>Read and check a bundle without reading its weights.</summary>
        /// <exception cref="BundleException">
        /// No such folder, no manifest, a newer major version, a file that is missing, of another size, outside the
        /// folder, or reached by a symbolic link that leaves it.
        /// </exception>
        public static Bundle Open(string folder)
        {
            if (!Directory.Exists(folder))
            {
                throw new BundleException($"{folder} is not a folder; give the folder that nudge-export wrote");
            }
            var path = Path.Combine(folder, ManifestReader.FileName);
            if (!File.Exists(path))
            {
                throw new BundleException(
                    $"{folder} holds no {ManifestReader.FileName}; give the folder that nudge-export wrote");
            }
            var bundle = new Bundle(folder, ManifestReader.Read(ReadText(path)));
            bundle.CheckFiles();
            return bundle;
        }

        /// <summary>The path of a file of this bundle.</summary>
        /// <exception cref="BundleException">It would leave the folder.</exception>
        public string PathOf(string relative)
        {
            var parts = relative.Split('/');
            if (relative.StartsWith("/", StringComparison.Ordinal)
                || parts.Contains("..")
                || relative.IndexOfAny(new[] { '\\', ':' }) >= 0)
            {
                throw new BundleException(
                    $"{ManifestReader.FileName} names '{relative}', a path that leaves the bundle; do not use this bundle");
            }
            var path = Path.Combine(new[] { Folder }.Concat(parts).ToArray());
            if (Links.Leave(Folder, parts))
            {
                throw new BundleException(
                    $"{relative} is a symbolic link that leaves the bundle; do not use this bundle");
            }
            return path;
        }

        /// <summary>Read every file and compare its SHA-256 with the manifest.</summary>
        /// <exception cref="BundleException">A file differs.</exception>
        public void Verify()
        {
            foreach (var (relative, record) in Manifest.Files.Select(entry => (entry.Key, entry.Value)))
            {
                using var hash = SHA256.Create();
                using var stream = File.OpenRead(PathOf(relative));
                var digest = BitConverter.ToString(hash.ComputeHash(stream)).Replace("-", "").ToLowerInvariant();
                if (digest != record.Sha256)
                {
                    throw new BundleException(
                        $"{relative} does not match its SHA-256; the bundle was changed, export or copy it again");
                }
            }
        }

        private static string ReadText(string path)
        {
            try
            {
                return File.ReadAllText(path, new UTF8Encoding(false, throwOnInvalidBytes: true));
            }
            catch (Exception error) when (error is IOException or ArgumentException or UnauthorizedAccessException)
            {
                throw new BundleException($"{path} cannot be read ({error.Message})");
            }
        }

        private void CheckFiles()
        {
            foreach (var (relative, record) in Manifest.Files.Select(entry => (entry.Key, entry.Value)))
            {
                var file = new FileInfo(PathOf(relative));
                if (!file.Exists)
                {
                    throw new BundleException($"{relative} is missing from the bundle; copy or export it again");
                }
                var bytes = Links.Size(file);
                if (bytes != record.Bytes)
                {
                    throw new BundleException(
                        $"{relative} has {bytes} bytes instead of {record.Bytes}; "
                        + "it is truncated or was changed, copy or export it again");
                }
            }
        }
    }
}
