using System;
using System.Collections.Generic;
using System.Text.RegularExpressions;

namespace NudgeOnnx.Text
{
    /// <summary>What becomes of the matches of a pattern that splits a text.</summary>
    internal enum SplitBehavior
    {
        /// <summary>They are dropped.</summary>
        Removed,

        /// <summary>Each is a part of its own.</summary>
        Isolated,

        /// <summary>Each ends the part before it.</summary>
        MergedWithPrevious,

        /// <summary>Each begins the part after it.</summary>
        MergedWithNext,

        /// <summary>A run of them is one part.</summary>
        Contiguous,
    }

    /// <summary>Splits a text at the matches of a regular expression over code points.</summary>
    internal sealed class Splitter
    {
        private readonly Regex _pattern;
        private readonly SplitBehavior _behavior;
        private readonly bool _invert;

        /// <summary>With <paramref name="invert"/>, what stands between the matches counts as a match.</summary>
        /// <exception cref="BundleException">.NET cannot read the pattern.</exception>
        internal Splitter(string pattern, SplitBehavior behavior, bool invert)
        {
            try
            {
                _pattern = new Regex(pattern, RegexOptions.CultureInvariant | RegexOptions.Compiled);
            }
            catch (ArgumentException error)
            {
                throw new BundleException(
                    $"a tokenizer splits with the pattern {pattern}, which .NET cannot read ({error.Message})");
            }
            _behavior = behavior;
            _invert = invert;
        }

        internal IEnumerable<string> Split(string text)
        {
            foreach (var (from, to) in Parts(text))
            {
                if (from < to)
                {
                    yield return text.Substring(from, to - from);
                }
            }
        }

        private IEnumerable<(int From, int To)> Parts(string text)
        {
            var spans = Spans(text);
            for (var i = 0; i < spans.Count; i++)
            {
                var (from, to, matched) = spans[i];
                switch (_behavior)
                {
                    case SplitBehavior.Removed when matched:
                        continue;
                    case SplitBehavior.MergedWithPrevious when !matched && i + 1 < spans.Count:
                        to = spans[++i].To;
                        break;
                    case SplitBehavior.MergedWithNext when matched && i + 1 < spans.Count && !spans[i + 1].Matched:
                        to = spans[++i].To;
                        break;
                    case SplitBehavior.Contiguous when matched:
                        while (i + 1 < spans.Count && spans[i + 1].Matched)
                        {
                            to = spans[++i].To;
                        }
                        break;
                }
                yield return (from, to);
            }
        }

        /// <summary>The whole text as matches and what stands between them, in order.</summary>
        private List<(int From, int To, bool Matched)> Spans(string text)
        {
            var shadow = CodePoints.Shadow(text, out var places);
            var spans = new List<(int, int, bool)>();
            var end = 0;
            for (var match = _pattern.Match(shadow); match.Success; match = match.NextMatch())
            {
                if (match.Length == 0)
                {
                    continue;
                }
                if (match.Index > end)
                {
                    spans.Add((places[end], places[match.Index], _invert));
                }
                end = match.Index + match.Length;
                spans.Add((places[match.Index], places[end], !_invert));
            }
            if (end < shadow.Length)
            {
                spans.Add((places[end], text.Length, _invert));
            }
            return spans;
        }
    }
}
