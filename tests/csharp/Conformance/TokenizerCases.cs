using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using NudgeOnnx.Text;

namespace NudgeOnnx.Conformance
{
    /// <summary>Ids of texts and bytes of ids, of one tokenizer.</summary>
    internal static class TokenizerCases
    {
        internal static void Check(JsonElement vectors, string folder, Report report)
        {
            var file = vectors.GetProperty("file").GetString()!;
            var tokenizer = Tokenizer.Open(Path.Combine(folder, file));
            report.Compare($"{file}: prefix", Ids(vectors.GetProperty("prefix")), Joined(tokenizer.EncodePrompt("", true).Ids));
            var id = 0;
            foreach (var bytes in vectors.GetProperty("token_bytes").EnumerateArray())
            {
                var found = BitConverter.ToString(tokenizer.BytesOf(id)).Replace("-", "").ToLowerInvariant();
                report.Compare($"{file}: bytes of {id}", bytes.GetString()!, found);
                id++;
            }
            foreach (var one in vectors.GetProperty("cases").EnumerateArray())
            {
                var text = one.GetProperty("text").GetString()!;
                var ids = one.GetProperty("ids");
                var promptIds = one.TryGetProperty("prompt_ids", out var special) ? special : ids;
                var name = $"{file}: {JsonSerializer.Serialize(text)}";
                report.Compare(name, Ids(ids), Joined(tokenizer.Encode(text)));
                report.Compare($"{name} as prompt", Ids(promptIds), Joined(tokenizer.EncodePrompt(text, false).Ids));
            }
        }

        internal static string Ids(JsonElement ids) => Joined(ids.EnumerateArray().Select(id => id.GetInt32()));

        internal static string Joined(IEnumerable<int> ids) => string.Join(",", ids);
    }
}
