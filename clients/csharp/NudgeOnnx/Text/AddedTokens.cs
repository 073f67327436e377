using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

namespace NudgeOnnx.Text
{
    /// <summary>A token that stands for its own text and is found before anything else is done to a text.</summary>
    /// <param name="Id">Its id.</param>
    /// <param name="Content">Its text.</param>
    /// <param name="Special">Whether it is recognised in prompts only, and writes nothing.</param>
    /// <param name="SingleWord">Whether it must not touch other letters or digits.</param>
    /// <param name="TakesSpacesBefore">Whether blanks before it belong to it.</param>
    /// <param name="TakesSpacesAfter">Whether blanks after it belong to it.</param>
    /// <param name="Normalized">Whether it is looked for in the normalised text.</param>
    internal sealed record AddedToken(
        int Id,
        string Content,
        bool Special,
        bool SingleWord,
        bool TakesSpacesBefore,
        bool TakesSpacesAfter,
        bool Normalized)
    {
        internal static AddedToken Read(JsonElement token) => new AddedToken(
            token.GetProperty("id").GetInt32(),
            token.GetProperty("content").GetString()!,
            TokenizerFile.Flag(token, "special", false),
            TokenizerFile.Flag(token, "single_word", false),
            TokenizerFile.Flag(token, "lstrip", false),
            TokenizerFile.Flag(token, "rstrip", false),
            TokenizerFile.Flag(token, "normalized", false));
    }

    /// <summary>A stretch of a text: an added token, or what stands between two.</summary>
    internal readonly struct Stretch
    {
        internal Stretch(int from, int to, AddedToken? token)
        {
            From = from;
            To = to;
            Token = token;
        }

        internal int From { get; }

        internal int To { get; }

        internal AddedToken? Token { get; }
    }

    /// <summary>Finds added tokens in a text: the leftmost one, and of those that begin there the longest.</summary>
    internal sealed class AddedTokens
    {
        private readonly Dictionary<string, AddedToken> _tokens = new Dictionary<string, AddedToken>(StringComparer.Ordinal);
        private readonly Dictionary<char, int[]> _lengths;

        /// <param name="tokens">Tokens with the text that is looked for.</param>
        internal AddedTokens(IEnumerable<(string Text, AddedToken Token)> tokens)
        {
            foreach (var (text, token) in tokens.Where(entry => entry.Text.Length > 0))
            {
                _tokens[text] = token;
            }
            _lengths = _tokens.Keys.GroupBy(text => text[0]).ToDictionary(
                group => group.Key,
                group => group.Select(text => text.Length).Distinct().OrderByDescending(length => length).ToArray());
        }

        /// <summary>The stretches of <paramref name="text"/>, in order; with <paramref name="special"/> off, special tokens are text.</summary>
        internal IEnumerable<Stretch> Find(string text, bool special)
        {
            var end = 0;
            for (var at = 0; at < text.Length;)
            {
                var token = Longest(text, at, out var length);
                if (token is null)
                {
                    at++;
                    continue;
                }
                var (from, to) = (at, at + length);
                // What is not taken is skipped as a whole all the same.
                at = to;
                if ((token.Special && !special) || (token.SingleWord && TouchesWord(text, from, to)))
                {
                    continue;
                }
                while (token.TakesSpacesBefore && from > end && char.IsWhiteSpace(text[from - 1]))
                {
                    from--;
                }
                while (token.TakesSpacesAfter && to < text.Length && char.IsWhiteSpace(text[to]))
                {
                    to++;
                }
                if (from > end)
                {
                    yield return new Stretch(end, from, null);
                }
                yield return new Stretch(from, to, token);
                end = to;
                at = Math.Max(at, to);
            }
            if (end < text.Length)
            {
                yield return new Stretch(end, text.Length, null);
            }
        }

        private static bool TouchesWord(string text, int from, int to) =>
            (from > 0 && IsWord(text[from - 1])) || (to < text.Length && IsWord(text[to]));

        private static bool IsWord(char character) => char.IsLetterOrDigit(character) || character == '_';

        private AddedToken? Longest(string text, int at, out int length)
        {
            length = 0;
            if (_lengths.TryGetValue(text[at], out var lengths))
            {
                foreach (var candidate in lengths)
                {
                    if (at + candidate <= text.Length && _tokens.TryGetValue(text.Substring(at, candidate), out var token))
                    {
                        length = candidate;
                        return token;
                    }
                }
            }
            return null;
        }
    }
}
