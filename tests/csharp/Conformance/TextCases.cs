using System;
using System.Linq;
using System.Text.Json;
using NudgeOnnx.Templates;
using NudgeOnnx.Text;

namespace NudgeOnnx.Conformance
{
    /// <summary>Bytes to text, and templates to prompts.</summary>
    internal static class TextCases
    {
        internal static void CheckBytes(JsonElement vector, Report report)
        {
            var hex = vector.GetProperty("bytes").GetString()!;
            var bytes = Enumerable.Range(0, hex.Length / 2).Select(i => Convert.ToByte(hex.Substring(2 * i, 2), 16)).ToArray();
            var text = Utf8Text.Decode(bytes, out var pending);
            report.Compare(hex, $"{vector.GetProperty("text").GetString()} {vector.GetProperty("pending")}", $"{text} {pending}");
        }

        internal static void CheckTemplate(JsonElement vector, Report report)
        {
            var refused = vector.TryGetProperty("error", out var error);
            var wanted = refused ? error.GetString()! : vector.GetProperty("text").GetString()!;
            var name = $"template {vector.GetProperty("name")}, {vector.GetProperty("messages").GetArrayLength()} messages";
            try
            {
                var messages = vector.GetProperty("messages").EnumerateArray().Select(TraceCases.Message);
                var tokens = vector.GetProperty("tokens").EnumerateObject()
                    .ToDictionary(token => token.Name, token => token.Value.GetString()!);
                var found = new Template(vector.GetProperty("template").GetString()!).Render(messages, tokens);
                if (refused)
                {
                    report.Differ(name, wanted, found);
                }
                else
                {
                    report.Compare(name, wanted, found);
                }
            }
            catch (TemplateException) when (refused)
            {
                // The reason is Python's own wording there; that it refuses is what counts.
                report.Agree();
            }
            catch (TemplateException unexpected)
            {
                report.Differ(name, wanted, unexpected.Message);
            }
        }
    }
}
