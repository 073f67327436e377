using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx.Text
{
    /// <summary>
    /// Which positions of a prompt are read in passes of one size, and which as an answer is read. What a pass caches of a
    /// position may depend on how many rows it has. So that one prompt is cached in one way, whatever of it a cache held
    /// before, it is parted by itself alone.
    /// </summary>
    internal static class PromptBlocks
    {
        internal const int Size = 128;

        /// <summary>
        /// The blocks that are read in one pass: all of their ids are settled, and none is of an earlier answer.
        /// </summary>
        /// <param name="settled">How many ids stay what they are whatever text follows the prompt.</param>
        /// <param name="spans">The characters of each id.</param>
        /// <param name="answers">The characters of earlier answers, which were read in steps when they were written.</param>
        internal static List<int> Whole(
            int settled, IReadOnlyList<(int Start, int End)> spans, IReadOnlyList<(int Start, int End)> answers) =>
            Enumerable.Range(0, settled / Size)
                .Where(block => !spans.Skip(block * Size).Take(Size).Any(
                    span => answers.Any(answer => answer.Start < span.End && span.Start < answer.End)))
                .ToList();

        /// <summary>Where a rendered prompt has the answers of a conversation, each behind the message before it.</summary>
        internal static List<(int Start, int End)> Answers(string text, IEnumerable<Message> messages)
        {
            var found = new List<(int, int)>();
            var at = 0;
            foreach (var message in messages)
            {
                var content = Blanks.Trim(message.Content); // templates trim
                var start = content.Length > 0 ? text.IndexOf(content, at, System.StringComparison.Ordinal) : -1;
                if (start < 0)
                {
                    continue;
                }
                at = start + content.Length;
                if (message.Role == "assistant")
                {
                    found.Add((start, at));
                }
            }
            return found;
        }
    }
}
