using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Text;

namespace NudgeOnnx.Decoding
{
    /// <summary>A place in a draft: before it stand some UTF-16 units of its text and some whole tokens.</summary>
    internal readonly struct HandOver
    {
        internal HandOver(int characters, int tokens, bool inside = false)
        {
            Characters = characters;
            Tokens = tokens;
            Inside = inside;
        }

        internal int Characters { get; }

        internal int Tokens { get; }

        /// <summary>Whether it falls inside the token that follows.</summary>
        internal bool Inside { get; }
    }

    /// <summary>What the nudging model would write next.</summary>
    internal sealed class Draft
    {
        private readonly Tokenizer _tokenizer;
        private readonly List<int?> _ends = new List<int?>();

        /// <param name="ids">Its tokens.</param>
        /// <param name="top1">The largest probability where the model chose each.</param>
        /// <param name="ended">Whether the model reached its end token.</param>
        /// <param name="tokenizer">The model's tokenizer.</param>
        internal Draft(IReadOnlyList<int> ids, IReadOnlyList<double> top1, bool ended, Tokenizer tokenizer)
        {
            Ids = ids;
            Top1 = top1;
            Ended = ended;
            _tokenizer = tokenizer;
            Text = "";
            var data = new List<byte>();
            foreach (var id in ids)
            {
                data.AddRange(tokenizer.BytesOf(id));
                Text = Utf8Text.Decode(data.ToArray(), out var pending);
                _ends.Add(pending > 0 ? null : (int?)Text.Length);
            }
        }

        internal IReadOnlyList<int> Ids { get; }

        internal IReadOnlyList<double> Top1 { get; }

        internal bool Ended { get; }

        /// <summary>The draft's text, without a character that it only begins.</summary>
        internal string Text { get; }

        /// <summary>The hand-over behind its last token.</summary>
        internal HandOver Whole => new HandOver(Text.Length, Ids.Count);

        /// <summary>Ids, top-1 probabilities and text before a hand-over; a token that it splits is spelt anew.</summary>
        internal (IReadOnlyList<int> Ids, IReadOnlyList<double?> Top1, string Text) UpTo(HandOver handOver)
        {
            var text = Text.Substring(0, handOver.Characters);
            if (handOver.Inside)
            {
                var ids = _tokenizer.EncodeInside(text);
                return (ids, new double?[ids.Count], text);
            }
            return (
                Ids.Take(handOver.Tokens).ToArray(),
                Top1.Take(handOver.Tokens).Select(probability => (double?)probability).ToArray(),
                text);
        }

        /// <summary>Checkpoints of policy <c>word</c>: before the one space that leads each non-empty word but the first.</summary>
        internal List<HandOver> WordHandOvers()
        {
            var handOvers = new List<HandOver>();
            var characters = 0;
            var seenWord = false;
            foreach (var word in Text.Split(' '))
            {
                if (word.Length > 0 && seenWord)
                {
                    handOvers.Add(At(characters - 1));
                }
                seenWord |= word.Length > 0;
                characters += word.Length + 1;
            }
            return handOvers;
        }

        /// <summary>Checkpoints of policy <c>token</c>: before each token but the first, unless inside a character.</summary>
        internal List<HandOver> TokenHandOvers() => _ends
            .Take(_ends.Count - 1)
            .Select((end, index) => (end, index))
            .Where(entry => entry.end != null)
            .Select(entry => new HandOver(entry.end!.Value, entry.index + 1))
            .ToList();

        private HandOver At(int characters)
        {
            // Tokens that write nothing belong to what stands before the hand-over.
            var last = _ends.FindLastIndex(end => end == characters);
            return last >= 0
                ? new HandOver(characters, last + 1)
                : new HandOver(characters, _ends.Count(end => end < characters), inside: true);
        }
    }
}
