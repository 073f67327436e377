using System;
using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx.Text
{
    /// <summary>
    /// Marks that no text of a prompt holds, put where a message begins to spell a special token. So the template alone
    /// writes special tokens, and what a mark stands for is read as text.
    /// </summary>
    internal sealed class HiddenTokens
    {
        private const int PrivateFrom = 0xE000;
        private const int PrivateTo = 0xF900;

        private readonly Tokenizer _tokenizer;
        private readonly IEnumerator<char> _free;
        private readonly Dictionary<char, char> _of = new Dictionary<char, char>();
        private readonly Dictionary<char, char> _shown = new Dictionary<char, char>();

        /// <param name="tokenizer">The model's tokenizer.</param>
        /// <param name="texts">All that the prompt is made of.</param>
        internal HiddenTokens(Tokenizer tokenizer, IEnumerable<string> texts)
        {
            _tokenizer = tokenizer;
            var taken = new HashSet<char>(texts.SelectMany(text => text));
            _free = Enumerable.Range(PrivateFrom, PrivateTo - PrivateFrom).Select(code => (char)code)
                .Where(mark => !taken.Contains(mark)).GetEnumerator();
        }

        /// <summary>The text with a mark in every special token, and in what could become a part of one beside the template's.</summary>
        internal string Hide(string text)
        {
            for (var spans = _tokenizer.SpecialSpans(text); spans.Count > 0; spans = _tokenizer.SpecialSpans(text))
            {
                // Each round marks a character at least.
                foreach (var (start, end) in spans)
                {
                    var token = text.Substring(start, end - start);
                    var blanks = token.Length - Blanks.TrimStart(token).Length;
                    text = Put(text, start + (blanks < token.Length ? blanks : 0));
                }
            }
            foreach (var token in _tokenizer.SpecialTokens)
            {
                for (var length = 1; length < token.Length; length++)
                {
                    // Templates trim what they are given.
                    var inner = Blanks.Trim(text);
                    if (inner.EndsWith(token.Substring(0, length), StringComparison.Ordinal))
                    {
                        text = Put(text, Blanks.TrimEnd(text).Length - length);
                    }
                    if (inner.StartsWith(token.Substring(token.Length - length), StringComparison.Ordinal))
                    {
                        text = Put(text, text.Length - Blanks.TrimStart(text).Length);
                    }
                }
            }
            return text;
        }

        /// <summary>Whether a text has marks.</summary>
        internal bool AreIn(string text) => text.Any(_shown.ContainsKey);

        /// <summary>The text as it was.</summary>
        internal string Shown(string text) =>
            new string(text.Select(one => _shown.TryGetValue(one, out var shown) ? shown : one).ToArray());

        private string Put(string text, int at)
        {
            if (!_of.TryGetValue(text[at], out var mark))
            {
                if (!_free.MoveNext())
                {
                    throw new NudgeException("the conversation holds every character of private use; take some out");
                }
                mark = _of[text[at]] = _free.Current;
                _shown[mark] = text[at];
            }
            return text.Substring(0, at) + mark + text.Substring(at + 1);
        }
    }
}
