using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using NudgeOnnx.Bundles;
using NudgeOnnx.Templates;

namespace NudgeOnnx.Text
{
    /// <summary>
    /// The ids of prompt + text, where special tokens count in the prompt only. <see cref="Encode"/> equals encoding
    /// the whole string anew; what stands safely before the end is remembered.
    /// </summary>
    internal sealed class PromptIds
    {
        // Text that is certain not to change any more is not encoded again; its last characters still may change. Both count
        // code points: which ids are settled decides how a prompt is read, and is the same in every language.
        private const int SettleAfter = 128;
        private const int StillOpen = 48;
        private const int MostTries = 8;

        private readonly Tokenizer _tokenizer;
        private readonly string _lead;
        private readonly int _leadIds;
        private List<int> _fixed;
        private string _open;
        private int _cut;

        /// <param name="tokenizer">The model's tokenizer.</param>
        /// <param name="text">The rendered prompt.</param>
        /// <param name="addPrefix">Whether the tokenizer's own prefix comes first.</param>
        /// <param name="answers">The characters of <paramref name="text"/> that earlier answers wrote.</param>
        /// <param name="hidden">What in it is read as text, though it spells special tokens.</param>
        internal PromptIds(
            Tokenizer tokenizer,
            string text,
            bool addPrefix,
            IReadOnlyList<(int Start, int End)>? answers = null,
            HiddenTokens? hidden = null)
        {
            _tokenizer = tokenizer;
            var encoding = tokenizer.EncodePrompt(text, addPrefix, hidden);
            text = hidden?.Shown(text) ?? text;
            Ids = encoding.Ids;
            // Up to its last special token a prompt never changes; the rest may join with the text that follows.
            _fixed = Ids.Take(encoding.FixedIds).ToList();
            _open = text.Substring(encoding.FixedCharacters);
            // Tokenizers that mark a string's start need something before a text that does not start one.
            _lead = _open.Length == 0 ? tokenizer.Lead
                : tokenizer.Encode(_open).SequenceEqual(Ids.Skip(encoding.FixedIds)) ? "" : "\n";
            _leadIds = _lead.Length > 0 ? tokenizer.Encode(_lead).Count : 0;
            Settle("");
            var settled = 0;
            while (settled < Math.Min(_fixed.Count, Ids.Count - 1) && _fixed[settled] == Ids[settled])
            {
                settled++;
            }
            Blocks = PromptBlocks.Whole(settled, encoding.Spans, answers ?? Array.Empty<(int, int)>());
        }

        /// <summary>
        /// The prompt of a conversation. With <see cref="ControlTokens.Refuse"/> and <see cref="ControlTokens.Escape"/> the
        /// template alone writes special tokens.
        /// </summary>
        /// <exception cref="NudgeException">A message spells a special token, and that is refused.</exception>
        /// <exception cref="TemplateException">The template refuses the conversation.</exception>
        internal static PromptIds Of(
            Tokenizer tokenizer,
            Template template,
            PromptRecord prompt,
            IReadOnlyList<Message> messages,
            ControlTokens controlTokens,
            string role)
        {
            HiddenTokens? hidden = null;
            if (controlTokens == ControlTokens.Refuse)
            {
                Refuse(tokenizer, messages, role);
            }
            if (controlTokens != ControlTokens.Allow)
            {
                var texts = prompt.Tokens.Values.Append(prompt.Template).Concat(messages.Select(message => message.Content));
                var marks = new HiddenTokens(tokenizer, texts);
                messages = messages.Select(message => message with { Content = marks.Hide(message.Content) }).ToList();
                hidden = marks;
            }
            var text = template.Render(messages, prompt.Tokens);
            return new PromptIds(tokenizer, text, prompt.AddBos, PromptBlocks.Answers(text, messages), hidden);
        }

        private static void Refuse(Tokenizer tokenizer, IReadOnlyList<Message> messages, string role)
        {
            foreach (var message in messages)
            {
                foreach (var (start, end) in tokenizer.SpecialSpans(message.Content))
                {
                    throw new NudgeException(
                        $"a message of role {message.Role} spells '{message.Content.Substring(start, end - start)}', a control "
                        + $"token of the {role} model; take it out, or set ControlTokens to Escape");
                }
            }
        }

        /// <summary>Ids of the prompt alone.</summary>
        internal List<int> Ids { get; }

        /// <summary>The blocks of the prompt that are read in one pass each, ascending.</summary>
        internal IReadOnlyList<int> Blocks { get; }

        /// <summary>Ids of prompt + <paramref name="text"/>, which must start with what <see cref="Settle"/> last got.</summary>
        internal List<int> Encode(string text)
        {
            var ids = new List<int>(_fixed);
            ids.AddRange(Plain(_open + text.Substring(_cut)));
            return ids;
        }

        /// <summary>Say that the answer now starts with <paramref name="text"/> for good, so that later calls are quick.</summary>
        internal void Settle(string text)
        {
            var tail = _open + text.Substring(_cut);
            if (CodePoints.Count(tail) < SettleAfter)
            {
                return;
            }
            var whole = Plain(tail).ToList();
            foreach (var at in WordStarts(tail))
            {
                var before = Plain(tail.Substring(0, at)).ToList();
                if (before.Concat(Plain(tail.Substring(at))).SequenceEqual(whole))
                {
                    _fixed = _fixed.Concat(before).ToList();
                    _open = tail.Substring(at);
                    _cut = text.Length;
                    return;
                }
            }
        }

        private IEnumerable<int> Plain(string text) =>
            text.Length == 0 ? Enumerable.Empty<int>() : _tokenizer.Encode(_lead + text).Skip(_leadIds);

        /// <summary>Places well before the end where a space follows a letter or digit, the latest first.</summary>
        private static IEnumerable<int> WordStarts(string tail)
        {
            var end = tail.Length;
            for (var open = 0; open < StillOpen; open++)
            {
                end -= end > 1 && char.IsSurrogatePair(tail[end - 2], tail[end - 1]) ? 2 : 1;
            }
            var found = 0;
            for (var at = end; at > 1 && found < MostTries; at--)
            {
                if (tail[at] == ' ' && IsLetterOrNumber(tail, at - 1))
                {
                    found++;
                    yield return at;
                }
            }
        }

        private static bool IsLetterOrNumber(string text, int at)
        {
            var start = at > 0 && char.IsSurrogatePair(text[at - 1], text[at]) ? at - 1 : at;
            return CharUnicodeInfo.GetUnicodeCategory(text, start) switch
            {
                UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
                    or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => true,
                UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => true,
                _ => false,
            };
        }
    }
}
