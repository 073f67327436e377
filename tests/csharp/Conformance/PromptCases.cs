using System;
using System.IO;
using System.Linq;
using System.Text.Json;
using NudgeOnnx.Bundles;
using NudgeOnnx.Templates;
using NudgeOnnx.Text;

namespace NudgeOnnx.Conformance
{
    /// <summary>Prompts of conversations: their ids, the blocks that are read whole, and the ids of an answer behind them.</summary>
    internal static class PromptCases
    {
        internal static void Check(JsonElement vector, string folder, Report report)
        {
            var file = vector.GetProperty("file").GetString()!;
            var tokenizer = Tokenizer.Open(Path.Combine(folder, file));
            var messages = vector.GetProperty("messages").EnumerateArray().Select(TraceCases.Message).ToList();
            var tokens = vector.GetProperty("tokens").EnumerateObject()
                .ToDictionary(token => token.Name, token => token.Value.GetString()!);
            var record = new PromptRecord(vector.GetProperty("template").GetString()!, tokens, false);
            var way = Enum.Parse<ControlTokens>(vector.GetProperty("control_tokens").GetString()!, ignoreCase: true);
            var name = $"{file}, {way}: {vector.GetProperty("messages")}";
            PromptIds prompt;
            try
            {
                prompt = PromptIds.Of(tokenizer, new Template(record.Template), record, messages, way, "base");
            }
            catch (NudgeException) when (!vector.TryGetProperty("ids", out _))
            {
                report.Agree();
                return;
            }
            var wanted = vector.TryGetProperty("ids", out var ids) ? TokenizerCases.Ids(ids) : "refused";
            report.Compare(name, wanted, TokenizerCases.Joined(prompt.Ids));
            if (!vector.TryGetProperty("blocks", out _))
            {
                return;
            }
            report.Compare(
                $"{name}, blocks", TokenizerCases.Ids(vector.GetProperty("blocks")), TokenizerCases.Joined(prompt.Blocks));
            var answer = vector.GetProperty("answer").GetString()!;
            report.Compare(
                $"{name}, answer", TokenizerCases.Ids(vector.GetProperty("answer_ids")), TokenizerCases.Joined(prompt.Encode(answer)));
        }
    }
}
