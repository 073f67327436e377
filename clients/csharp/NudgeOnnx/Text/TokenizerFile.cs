using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace NudgeOnnx.Text
{
    /// <summary>Helpers to read a <c>tokenizer.json</c> in the format of Hugging Face tokenizers.</summary>
    internal static class TokenizerFile
    {
        /// <summary>The file as JSON.</summary>
        /// <exception cref="BundleException">It is none.</exception>
        internal static JsonDocument Open(string path)
        {
            try
            {
                using var stream = File.OpenRead(path);
                return JsonDocument.Parse(stream);
            }
            catch (Exception error) when (error is IOException or JsonException)
            {
                throw Unreadable(path, error);
            }
        }

        internal static BundleException Unreadable(string path, Exception error) => new BundleException(
            $"{Path.GetFileName(path)} cannot be read ({error.Message.Split('\n')[0]}); export the bundle again");

        internal static BundleException Unsupported(string part, JsonElement step) =>
            new BundleException($"the {part} {Kind(step)} of a tokenizer is not supported by this library");

        internal static string Kind(JsonElement step) => step.GetProperty("type").GetString() ?? "";

        /// <summary>The steps of a part: those in <paramref name="list"/> of a Sequence, itself, or none where it is null.</summary>
        internal static IEnumerable<JsonElement> Steps(JsonElement part, string list)
        {
            if (part.ValueKind != JsonValueKind.Object)
            {
                return Enumerable.Empty<JsonElement>();
            }
            return Kind(part) == "Sequence"
                ? part.GetProperty(list).EnumerateArray().SelectMany(step => Steps(step, list))
                : new[] { part };
        }

        internal static JsonElement Part(JsonElement root, string name) =>
            root.TryGetProperty(name, out var part) ? part : default;

        internal static bool Flag(JsonElement step, string name, bool otherwise) =>
            step.TryGetProperty(name, out var value)
            && value.ValueKind is JsonValueKind.True or JsonValueKind.False
                ? value.ValueKind == JsonValueKind.True
                : otherwise;

        internal static string? TextOrNull(JsonElement part, string name) =>
            part.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

        /// <summary>The <c>pattern</c> of a step as a regular expression.</summary>
        internal static string Pattern(JsonElement step) =>
            PlainPattern(step) is { } plain
                ? Regex.Escape(plain)
                : step.GetProperty("pattern").GetProperty("Regex").GetString()!;

        /// <summary>The <c>pattern</c> of a step where that is a plain text.</summary>
        internal static string? PlainPattern(JsonElement step) =>
            TextOrNull(step.GetProperty("pattern"), "String");

        /// <summary>The merges of a BPE model: pairs, or texts with a space between the two.</summary>
        internal static IEnumerable<(string Left, string Right)> Merges(JsonElement model)
        {
            foreach (var merge in model.GetProperty("merges").EnumerateArray())
            {
                if (merge.ValueKind == JsonValueKind.String)
                {
                    var parts = merge.GetString()!.Split(' ');
                    yield return (parts[0], parts[1]);
                }
                else
                {
                    yield return (merge[0].GetString()!, merge[1].GetString()!);
                }
            }
        }

        /// <summary>The ids that the post-processor puts before a text.</summary>
        /// <exception cref="BundleException">A kind of post-processor that is not supported.</exception>
        internal static int[] Prefix(JsonElement postProcessor)
        {
            var prefix = new List<int>();
            foreach (var step in Steps(postProcessor, "processors"))
            {
                switch (Kind(step))
                {
                    case "ByteLevel":
                        break;
                    case "TemplateProcessing":
                        prefix.AddRange(TemplatePrefix(step));
                        break;
                    case "BertProcessing":
                    case "RobertaProcessing":
                        prefix.Add(step.GetProperty("cls")[1].GetInt32());
                        break;
                    default:
                        throw Unsupported("post_processor", step);
                }
            }
            return prefix.ToArray();
        }

        private static IEnumerable<int> TemplatePrefix(JsonElement step)
        {
            foreach (var part in step.GetProperty("single").EnumerateArray())
            {
                if (!part.TryGetProperty("SpecialToken", out var token))
                {
                    yield break;
                }
                var entry = step.GetProperty("special_tokens").GetProperty(token.GetProperty("id").GetString()!);
                foreach (var id in entry.GetProperty("ids").EnumerateArray())
                {
                    yield return id.GetInt32();
                }
            }
        }
    }
}
