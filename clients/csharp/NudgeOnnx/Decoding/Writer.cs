using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Inference;
using NudgeOnnx.Text;

namespace NudgeOnnx.Decoding
{
    /// <summary>A model in its part of an answer: its prompt, its way of spelling the shared text, and its reader.</summary>
    internal abstract class Writer
    {
        private readonly Reader _reader;
        private readonly HashSet<int> _ends;
        private Habit? _habit;

        private protected Writer(Reader reader, PromptIds prompt, Tokenizer tokenizer, IEnumerable<int> ends)
        {
            _reader = reader;
            _ends = new HashSet<int>(ends);
            Prompt = prompt;
            Tokenizer = tokenizer;
        }

        internal Tokenizer Tokenizer { get; }

        /// <summary>What the model's passes cost.</summary>
        internal Costs Costs => _reader.Decoder.Costs;

        private protected PromptIds Prompt { get; }

        /// <summary>Draft with guesses: fewer passes for the same draft.</summary>
        internal void GuessFrom(Habit habit) => _habit = habit;

        /// <summary>The model's ids for prompt and answer, as it sees them when it receives the pen.</summary>
        internal abstract List<int> Ids(Transcript answer);

        /// <summary>The same, followed by what a draft says between two cuts.</summary>
        internal abstract List<int> Ids(Transcript answer, Draft draft, Cut begin, Cut end);

        /// <summary>The model's choice after <paramref name="ids"/>; <paramref name="ahead"/> is what may come then.</summary>
        internal Choice Next(IReadOnlyList<int> ids, IEnumerable<int>? ahead = null) => _reader.Next(ids, ahead);

        /// <summary>Whether the choice after <paramref name="ids"/> was read already.</summary>
        internal bool Knows(IReadOnlyList<int> ids) => _reader.Knows(ids);

        /// <summary>Whether the choice is to end.</summary>
        internal bool Ends(Choice choice) => _ends.Contains(choice.Token);

        /// <summary>
        /// What this model would write next: at most <paramref name="length"/> tokens, on to the end of a character, or to
        /// its end.
        /// </summary>
        /// <exception cref="ContextLengthException">Its context is full.</exception>
        internal Draft Draft(Transcript answer, int length)
        {
            var ids = Ids(answer);
            var start = ids.Count;
            var top1 = new List<double>();
            var data = new List<byte>();
            var ended = false;
            while (top1.Count < length || Utf8Text.Open(data.ToArray()) > 0)
            {
                _habit?.Learn(ids);
                var choice = Next(ids, _habit?.Guess(ids));
                if (Ends(choice))
                {
                    ended = true;
                    break;
                }
                ids.Add(choice.Token);
                top1.Add(choice.Top1);
                data.AddRange(Tokenizer.BytesOf(choice.Token));
            }
            return new Draft(ids.Skip(start).ToArray(), top1, ended, Tokenizer);
        }
    }

    /// <summary>A model that shares the answer as text, so that any two tokenizers go together (policy <c>word</c>).</summary>
    internal sealed class TextWriter : Writer
    {
        internal TextWriter(Reader reader, PromptIds prompt, Tokenizer tokenizer, IEnumerable<int> ends)
            : base(reader, prompt, tokenizer, ends)
        {
        }

        internal override List<int> Ids(Transcript answer)
        {
            Prompt.Settle(answer.Text);
            return Prompt.Encode(answer.Text);
        }

        internal override List<int> Ids(Transcript answer, Draft draft, Cut begin, Cut end) => Prompt.Encode(
            answer.Text + draft.Text.Substring(begin.Characters, end.Characters - begin.Characters));
    }

    /// <summary>A model that shares its vocabulary with the other one, so that ids pass over as they are (<c>token</c>).</summary>
    internal sealed class IdWriter : Writer
    {
        internal IdWriter(Reader reader, PromptIds prompt, Tokenizer tokenizer, IEnumerable<int> ends)
            : base(reader, prompt, tokenizer, ends)
        {
        }

        internal override List<int> Ids(Transcript answer) => Prompt.Ids.Concat(answer.Ids).ToList();

        internal override List<int> Ids(Transcript answer, Draft draft, Cut begin, Cut end) =>
            Ids(answer).Concat(draft.Ids.Skip(begin.Tokens).Take(end.Tokens - begin.Tokens)).ToList();
    }
}
