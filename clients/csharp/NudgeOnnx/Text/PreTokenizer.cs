using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace NudgeOnnx.Text
{
    /// <summary>Cuts a normalised text into the pieces in which byte pairs are merged; reads a <c>pre_tokenizer</c>.</summary>
    internal sealed class PreTokenizer
    {
        private const string Gpt2 = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

        // Each takes a piece and whether it begins the text, and gives its parts.
        private readonly List<Func<string, bool, IEnumerable<string>>> _steps =
            new List<Func<string, bool, IEnumerable<string>>>();

        /// <exception cref="BundleException">A kind of step that is not supported.</exception>
        internal PreTokenizer(JsonElement settings)
        {
            foreach (var step in TokenizerFile.Steps(settings, "pretokenizers"))
            {
                Add(step);
            }
        }

        /// <summary>Whether a step maps bytes to characters of <see cref="ByteAlphabet"/>.</summary>
        internal bool ByteLevel { get; private set; }

        /// <summary>The pieces of <paramref name="text"/>; <paramref name="first"/>: it begins the whole text.</summary>
        internal IEnumerable<string> Split(string text, bool first)
        {
            IEnumerable<(string Part, bool First)> parts = new[] { (text, first) };
            foreach (var step in _steps)
            {
                parts = parts.SelectMany(part =>
                    step(part.Part, part.First).Select((piece, index) => (piece, part.First && index == 0)));
            }
            return parts.Select(part => part.Part).Where(part => part.Length > 0);
        }

        private void Add(JsonElement step)
        {
            switch (TokenizerFile.Kind(step))
            {
                case "ByteLevel":
                    ByteLevel = true;
                    if (TokenizerFile.Flag(step, "add_prefix_space", true))
                    {
                        _steps.Add((text, _) => new[] { text.StartsWith(" ", StringComparison.Ordinal) ? text : " " + text });
                    }
                    if (TokenizerFile.Flag(step, "use_regex", true))
                    {
                        Split(Gpt2, SplitBehavior.Isolated, false);
                    }
                    break;
                case "Digits":
                    Split(TokenizerFile.Flag(step, "individual_digits", false) ? @"\p{N}" : @"\p{N}+", SplitBehavior.Isolated, false);
                    break;
                case "Split":
                    Split(
                        TokenizerFile.Pattern(step),
                        Enum.Parse<SplitBehavior>(step.GetProperty("behavior").GetString()!),
                        TokenizerFile.Flag(step, "invert", false));
                    break;
                case "Metaspace":
                    Metaspace(step);
                    break;
                default:
                    throw TokenizerFile.Unsupported("pre_tokenizer", step);
            }
        }

        private void Split(string pattern, SplitBehavior behavior, bool invert)
        {
            var splitter = new Splitter(pattern, behavior, invert);
            _steps.Add((text, _) => splitter.Split(text));
        }

        private void Metaspace(JsonElement step)
        {
            var mark = step.GetProperty("replacement").GetString()!;
            var scheme = step.TryGetProperty("prepend_scheme", out var value) ? value.GetString() : "always";
            _steps.Add((text, first) =>
            {
                text = text.Replace(" ", mark);
                var prepend = scheme == "always" || (scheme == "first" && first);
                return new[] { prepend && !text.StartsWith(mark, StringComparison.Ordinal) ? mark + text : text };
            });
            if (TokenizerFile.Flag(step, "split", true))
            {
                Split(Regex.Escape(mark), SplitBehavior.MergedWithNext, false);
            }
        }
    }
}
