using System.IO;
using System.Linq;
using System.Text.Json;
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
            var text = new Template(vector.GetProperty("template").GetString()!).Render(messages, tokens);
            var prompt = new PromptIds(tokenizer, text, false, PromptBlocks.Answers(text, messages));
            var name = $"{file}: {vector.GetProperty("messages")}";
            report.Compare(name, TokenizerCases.Ids(vector.GetProperty("ids")), TokenizerCases.Joined(prompt.Ids));
            report.Compare(
                $"{name}, blocks", TokenizerCases.Ids(vector.GetProperty("blocks")), TokenizerCases.Joined(prompt.Blocks));
            var answer = vector.GetProperty("answer").GetString()!;
            report.Compare(
                $"{name}, answer", TokenizerCases.Ids(vector.GetProperty("answer_ids")), TokenizerCases.Joined(prompt.Encode(answer)));
        }
    }
}
