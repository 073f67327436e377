using System;
using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx.Text
{
    /// <summary>
    /// The ids of prompt + text, where special tokens count in the prompt only. <see cref="Encode"/> equals encoding
    /// the whole string anew; what stands safely before the end is remembered.
    /// </summary>
    internal sealed class PromptIds
    {
        // Text that is certain not to change any more is not encoded again; its last characters still may change.
        private const int SettleAfter = 400;
        private const int StillOpen = 80;
        private const int MostTries = 8;

        private readonly Tokenizer _tokenizer;
        private readonly string _lead;
        private readonly int _leadIds;
        private List<int> _fixed;
        private string _open;
        private int _cut;

        internal PromptIds(Tokenizer tokenizer, string text, bool addPrefix)
        {
            _tokenizer = tokenizer;
            var encoding = tokenizer.EncodePrompt(text, addPrefix);
            Ids = encoding.Ids;
            // Up to its last special token a prompt never changes; the rest may join with the text that follows.
            _fixed = Ids.Take(encoding.FixedIds).ToList();
            _open = text.Substring(encoding.FixedCharacters);
            // Tokenizers that mark a string's start need something before a text that does not start one.
            var marksStart = _open.Length > 0 && !tokenizer.Encode(_open).SequenceEqual(Ids.Skip(encoding.FixedIds));
            _lead = marksStart ? "\n" : "";
            _leadIds = marksStart ? tokenizer.Encode(_lead).Count : 0;
            Settle("");
        }

        /// <summary>Ids of the prompt alone.</summary>
        internal List<int> Ids { get; }

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
            if (_open.Length + text.Length - _cut < SettleAfter || _lead.Length > 0)
            {
                return;
            }
            var tail = _open + text.Substring(_cut);
            var whole = Plain(tail);
            foreach (var at in WordStarts(tail, tail.Length - StillOpen))
            {
                var before = Plain(tail.Substring(0, at));
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

        /// <summary>Places before <paramref name="end"/> where a space follows a word, the latest first.</summary>
        private static IEnumerable<int> WordStarts(string tail, int end)
        {
            var found = 0;
            for (var at = Math.Min(end, tail.Length - 1); at > 1 && found < MostTries; at--)
            {
                if (tail[at] == ' ' && char.IsLetterOrDigit(tail[at - 1]))
                {
                    found++;
                    yield return at;
                }
            }
        }
    }
}
