using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Inference;
using NudgeOnnx.Text;

namespace NudgeOnnx.Decoding
{
    /// <summary>A model in its part of an answer: its prompt, its way of spelling the shared text, and its memory.</summary>
    internal abstract class Participant
    {
        private readonly RememberedRows _memory;
        private readonly HashSet<int> _ends;
        private NGramGuesser? _guesser;

        private protected Participant(RememberedRows memory, PromptIds prompt, Tokenizer tokenizer, IEnumerable<int> ends)
        {
            _memory = memory;
            _ends = new HashSet<int>(ends);
            Prompt = prompt;
            Tokenizer = tokenizer;
        }

        internal Tokenizer Tokenizer { get; }

        /// <summary>What the model's passes cost.</summary>
        internal Costs Costs => _memory.Decoder.Costs;

        private protected PromptIds Prompt { get; }

        /// <summary>Draft with guesses: fewer passes for the same draft.</summary>
        internal void GuessWith(NGramGuesser guesser) => _guesser = guesser;

        /// <summary>The model's ids for prompt and answer, as it sees them when it takes its turn.</summary>
        internal abstract List<int> Ids(Transcript answer);

        /// <summary>The same, followed by what a draft says between two hand-overs.</summary>
        internal abstract List<int> Ids(Transcript answer, Draft draft, HandOver begin, HandOver end);

        /// <summary>The model's choice after <paramref name="ids"/>; <paramref name="ahead"/> is what may come then.</summary>
        internal Choice Next(IReadOnlyList<int> ids, IEnumerable<int>? ahead = null) => _memory.Next(ids, ahead);

        /// <summary>Whether the choice after <paramref name="ids"/> was read already.</summary>
        internal bool Knows(IReadOnlyList<int> ids) => _memory.Knows(ids);

        /// <summary>Whether the choice is to end.</summary>
        internal bool Ends(Choice choice) => _ends.Contains(choice.Token);

        /// <summary>
        /// A draft of what this model would write next, of at most <paramref name="length"/> tokens, of which none is written.
        /// </summary>
        internal OpenDraft BeginDraft(Transcript answer, int length) => new OpenDraft(this, Ids(answer), length);

        /// <summary>The choice after <paramref name="ids"/>, read together with a guess at what comes then.</summary>
        internal Choice Drafted(List<int> ids)
        {
            _guesser?.Learn(ids);
            return Next(ids, _guesser?.Guess(ids));
        }
    }

    /// <summary>A model that shares the answer as text, so that any two tokenizers go together (policy <c>word</c>).</summary>
    internal sealed class TextParticipant : Participant
    {
        internal TextParticipant(RememberedRows memory, PromptIds prompt, Tokenizer tokenizer, IEnumerable<int> ends)
            : base(memory, prompt, tokenizer, ends)
        {
        }

        internal override List<int> Ids(Transcript answer)
        {
            Prompt.Settle(answer.Text);
            return Prompt.Encode(answer.Text);
        }

        internal override List<int> Ids(Transcript answer, Draft draft, HandOver begin, HandOver end) => Prompt.Encode(
            answer.Text + draft.Text.Substring(begin.Characters, end.Characters - begin.Characters));
    }

    /// <summary>A model that shares its vocabulary with the other one, so that ids pass over as they are (<c>token</c>).</summary>
    internal sealed class IdParticipant : Participant
    {
        internal IdParticipant(RememberedRows memory, PromptIds prompt, Tokenizer tokenizer, IEnumerable<int> ends)
            : base(memory, prompt, tokenizer, ends)
        {
        }

        internal override List<int> Ids(Transcript answer) => Prompt.Ids.Concat(answer.Ids).ToList();

        internal override List<int> Ids(Transcript answer, Draft draft, HandOver begin, HandOver end) =>
            Ids(answer).Concat(draft.Ids.Skip(begin.Tokens).Take(end.Tokens - begin.Tokens)).ToList();
    }
}
