using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

namespace NudgeOnnx.Bundles
{
    /// <summary>Reads the text of a manifest. Fields that it does not know are skipped: a minor version may add some.</summary>
    internal static class ManifestReader
    {
        internal const string FileName = "nudge.json";
        private const string Format = "nudge-onnx-bundle";
        private const string Major = "1";
        private static readonly string[] Roles = { "base", "nudge", "proxy_base" };

        /// <summary>The manifest that <paramref name="json"/> holds.</summary>
        /// <exception cref="BundleException">
        /// Broken JSON, another format, a newer major version, a missing or ill-typed field, a missing model.
        /// </exception>
        internal static Manifest Read(string json)
        {
            using var document = Parse(json);
            var root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object
                || !root.TryGetProperty("format", out var format)
                || format.ValueKind != JsonValueKind.String
                || format.GetString() != Format)
            {
                throw new BundleException($"{FileName} is not a {Format} manifest; is this the right folder?");
            }
            var version = root.TryGetProperty("version", out var value) ? value.ToString() : "";
            if (version.Split('.')[0] != Major)
            {
                var found = version.Length == 0 ? "(none)" : version;
                throw new BundleException(
                    $"bundle format {found} is not supported, this release reads {Major}.x; "
                    + "update this library or export the bundle again");
            }
            var missing = Roles.Take(2).FirstOrDefault(role => root.TryGetProperty("models", out var models)
                && models.ValueKind == JsonValueKind.Object && !models.TryGetProperty(role, out _));
            if (missing != null)
            {
                throw new BundleException($"{FileName} lists no '{missing}' model; export the bundle again");
            }
            Schema.Check(root);
            var manifest = Fields(new JsonFields(root), version);
            foreach (var reason in Contradictions(manifest))
            {
                throw new BundleException($"{FileName} {reason}; export the bundle again");
            }
            return manifest;
        }

        /// <summary>What fields say against each other, in words that follow the name of the manifest.</summary>
        private static IEnumerable<string> Contradictions(Manifest manifest)
        {
            foreach (var (role, model) in manifest.Models.Select(entry => (entry.Key, entry.Value)))
            {
                foreach (var path in model.ExternalData.Prepend(model.Tokenizer).Prepend(model.Graph))
                {
                    if (!manifest.Files.ContainsKey(path))
                    {
                        yield return $"uses {path} and does not list it under files";
                    }
                }
                var io = model.Io;
                var inputs = new[] { io.InputIds, io.AttentionMask, io.PositionIds, io.LogitsRows, io.PastKey, io.PastValue };
                var outputs = new[] { io.Logits, io.Top1Id, io.Top1Probability, io.LogSumExp, io.PresentKey, io.PresentValue };
                foreach (var (what, names) in new[] { ("input", inputs), ("output", outputs) })
                {
                    var twin = names.Where(name => name != null).GroupBy(name => name).FirstOrDefault(same => same.Count() > 1);
                    if (twin != null)
                    {
                        yield return $"names one {what} of the {role} model for two things, \"{twin.Key}\"";
                    }
                }
            }
            if (manifest.Defaults.Policy == "token" && !manifest.SharedVocabulary)
            {
                yield return "has the default policy 'token', which needs one vocabulary, and says that there are two";
            }
        }

        private static JsonDocument Parse(string json)
        {
            try
            {
                return JsonDocument.Parse(json);
            }
            catch (JsonException error)
            {
                var reason = error.Message.Split('\n')[0].TrimEnd('.', ' ', '\r');
                throw new BundleException($"{FileName} is not valid JSON ({reason}); export the bundle again");
            }
        }

        private static Manifest Fields(JsonFields root, string version)
        {
            var defaults = root.Object("defaults");
            return new Manifest(
                root.Text("name"),
                version,
                new Defaults(
                    defaults.Text("policy"),
                    defaults.Fraction("gamma"),
                    defaults.Number("draft_tokens"),
                    defaults.Text("gate"),
                    defaults.FractionOr("gate_temperature", 1),
                    defaults.TextOrNull("tail") ?? "draft",
                    defaults.Text("system_prompt")),
                root.Flag("shared_vocabulary"),
                root.Object("models").Entries()
                    .Where(entry => Roles.Contains(entry.Name))
                    .ToDictionary(entry => entry.Name, entry => Model(new JsonFields(entry.Value))),
                root.Object("files").Entries()
                    .ToDictionary(entry => entry.Name, entry => File(new JsonFields(entry.Value))));
        }

        private static FileRecord File(JsonFields file) => new FileRecord(file.LongNumber("bytes"), file.Text("sha256"));

        private static ModelRecord Model(JsonFields model)
        {
            var cache = model.Object("cache");
            var prompt = model.Object("prompt");
            return new ModelRecord(
                model.Text("graph"),
                model.Text("tokenizer"),
                model.Texts("external_data"),
                model.Text("architecture"),
                model.Text("precision"),
                model.Number("context_length"),
                model.Number("vocabulary_size"),
                model.Numbers("end_token_ids"),
                new CacheRecord(
                    cache.Number("layers"),
                    cache.Number("kv_heads"),
                    cache.Number("head_size"),
                    cache.Text("dtype"),
                    cache.Text("kind")),
                Io(model.Object("io")),
                new PromptRecord(prompt.Text("template"), Tokens(prompt), prompt.Flag("add_bos")),
                model.Flag("steady_rows"),
                model.NumberOrNull("prompt_rows"),
                model.NumbersOrNull("windows"),
                model.Texts("passes"),
                model.LongNumberOrNull("parameters"));
        }

        private static GraphIo Io(JsonFields io) => new GraphIo(
            io.Text("input_ids"),
            io.TextOrNull("attention_mask"),
            io.TextOrNull("position_ids"),
            io.TextOrNull("logits_rows"),
            io.Text("logits"),
            io.TextOrNull("top1_id"),
            io.TextOrNull("top1_probability"),
            io.TextOrNull("log_sum_exp"),
            io.Text("past_key"),
            io.Text("past_value"),
            io.Text("present_key"),
            io.Text("present_value"));

        private static IReadOnlyDictionary<string, string> Tokens(JsonFields prompt)
        {
            var tokens = prompt.Object("tokens");
            return tokens.Entries().ToDictionary(entry => entry.Name, entry => tokens.Text(entry.Name));
        }
    }
}
