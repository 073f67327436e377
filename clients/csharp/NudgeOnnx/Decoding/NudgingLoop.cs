using System;
using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Inference;
using NudgeOnnx.Text;

namespace NudgeOnnx.Decoding
{
    /// <summary>
    /// The nudging loop (Fei, Razeghi, Singh, ACL 2025). <c>docs/decoding.md</c> has the rule and numbers its steps like here.
    /// A caller may stop at any piece; the models' caches are valid whenever this is not running.
    /// </summary>
    internal sealed class NudgingLoop : IPieces
    {
        private const int SameDrafts = 4;
        private const int LoopTokens = 16;
        private const int LoopWords = 5;

        private readonly Participant _base;
        private readonly Participant _nudge;
        private readonly Transcript _answer;
        private readonly Func<Draft, List<HandOver>> _handOversOf;
        private readonly int _draftTokens;
        private readonly Speculation _speculation;
        private readonly bool _lazy;
        private readonly double? _bet;

        /// <param name="baseModel">The base model.</param>
        /// <param name="nudgingModel">The nudging model.</param>
        /// <param name="answer">The answer, still empty.</param>
        /// <param name="handOversOf">A draft's hand-overs.</param>
        /// <param name="draftTokens">The most tokens of one draft.</param>
        /// <param name="speculation">When to read ahead of the base model.</param>
        /// <param name="guessDrafts">Whether the nudging model may be asked about a guessed token, too.</param>
        /// <param name="lazy">Whether an end of the nudging model counts only before the base model takes over.</param>
        /// <param name="bet">The threshold of the gate that asks both models; <c>null</c> for any other gate.</param>
        internal NudgingLoop(
            Participant baseModel,
            Participant nudgingModel,
            Transcript answer,
            Func<Draft, List<HandOver>> handOversOf,
            int draftTokens,
            Speculation speculation,
            bool guessDrafts,
            bool lazy,
            double? bet)
        {
            if (guessDrafts)
            {
                nudgingModel.GuessWith(new NGramGuesser(nudgingModel.Costs));
            }
            _base = baseModel;
            _nudge = nudgingModel;
            _answer = answer;
            _handOversOf = handOversOf;
            _draftTokens = draftTokens;
            _speculation = speculation;
            _lazy = lazy;
            _bet = bet;
        }

        /// <inheritdoc/>
        public FinishReason Finish { get; private set; } = FinishReason.Cancelled;

        /// <inheritdoc/>
        public IEnumerable<Piece> Run()
        {
            using var rounds = Rounds().GetEnumerator();
            while (Advance(rounds))
            {
                yield return rounds.Current;
            }
        }

        private bool Advance(IEnumerator<Piece> rounds)
        {
            try
            {
                return rounds.MoveNext();
            }
            catch (ContextLengthException)
            {
                Finish = FinishReason.Length;
                return false;
            }
        }

        private IEnumerable<Piece> Rounds()
        {
            var (accepted, offers) = ("", 0);
            while (!_answer.IsFull)
            {
                var growing = _nudge.BeginDraft(_answer, _draftTokens); // 1
                if (!_lazy)
                {
                    growing.Whole();
                }
                HandOver? place = null;
                Choice? choice = null;
                if (_lazy || !growing.SoFar.Ended)
                {
                    (place, choice) = HandOverIn(growing); // 3
                }
                var draft = growing.SoFar;
                if (!(place is { } handOver)) // 2
                {
                    var fits = _answer.Room >= draft.Ids.Count;
                    if (draft.Ids.Count > 0)
                    {
                        yield return Append(draft, draft.Whole);
                    }
                    Finish = fits ? FinishReason.Stop : FinishReason.Length;
                    yield break;
                }
                var text = draft.Text.Substring(0, handOver.Characters);
                offers = text == accepted ? offers + 1 : 1;
                accepted = text;
                if (offers == SameDrafts)
                {
                    Finish = FinishReason.Repetition;
                    yield break;
                }
                yield return Append(draft, handOver);
                if (choice is { } taken && !_answer.IsFull)
                {
                    foreach (var piece in Stretch(taken, Guess(draft, handOver))) // 4
                    {
                        yield return piece;
                    }
                }
            }
            Finish = FinishReason.Length;
        }

        private Piece Append(Draft draft, HandOver handOver)
        {
            var (ids, top1, text) = draft.UpTo(handOver);
            return _answer.Append(Source.Nudge, ids, top1, text, _nudge.Tokenizer);
        }

        /// <summary>
        /// Where the draft is cut, and what the base model writes there if it takes over. No place: the draft ends the answer.
        /// It grows as far as is needed to say so.
        /// </summary>
        private (HandOver? At, Choice? Choice) HandOverIn(OpenDraft growing)
        {
            var asked = 0;
            while (true)
            {
                var (draft, done) = (growing.SoFar, growing.Done);
                var handOvers = _handOversOf(draft);
                var whole = _base.Ids(_answer, draft, default, draft.Whole);
                foreach (var handOver in handOvers.Skip(asked))
                {
                    var ids = _base.Ids(_answer, draft, default, handOver);
                    var choice = Ask(ids, RestOf(whole, ids));
                    if (IsCertain(choice, draft, handOver) || Agrees(choice, growing, handOver))
                    {
                        return (handOver, choice);
                    }
                }
                asked = handOvers.Count;
                if (done)
                {
                    return draft.Ended ? (null, null)
                        : (handOvers.Count > 0 ? handOvers[handOvers.Count - 1] : draft.Whole, (Choice?)null);
                }
                if (!growing.Done) // which to agree may have taken
                {
                    Grow(growing);
                }
            }
        }

        /// <summary>One more token, and as many as promise to pay as guesses.</summary>
        private void Grow(OpenDraft growing)
        {
            growing.Grow();
            var wanted = _speculation.DraftLength();
            try
            {
                while (!growing.Done && growing.Count < wanted)
                {
                    growing.Grow();
                }
            }
            catch (ContextLengthException)
            {
                // What is only guessed at may be missing.
            }
        }

        private bool Agrees(Choice choice, OpenDraft growing, HandOver handOver)
        {
            var word = Blanks.Trim(_base.Tokenizer.TextOf(new[] { choice.Token }));
            if (word.Length == 0 || _base.Ends(choice))
            {
                return false;
            }
            while (true)
            {
                var rest = Blanks.TrimStart(growing.SoFar.Text.Substring(handOver.Characters));
                if (growing.Done || rest.Length >= word.Length || !word.StartsWith(rest, StringComparison.Ordinal))
                {
                    return rest.StartsWith(word, StringComparison.Ordinal);
                }
                growing.Grow();
            }
        }

        /// <summary>Whether the base model is certain of its choice after the answer, and a draft up to a hand-over.</summary>
        private bool IsCertain(Choice choice, Draft? draft = null, HandOver handOver = default)
        {
            if (!(_bet is { } gamma))
            {
                return choice.Certain;
            }
            var ids = draft == null ? _nudge.Ids(_answer) : _nudge.Ids(_answer, draft, default, handOver);
            return Gates.Bets(choice, _nudge.Next(ids), gamma);
        }

        /// <summary>
        /// The base model writes from <paramref name="choice"/> on; <paramref name="guess"/> is what it may write, begun
        /// with that very token.
        /// </summary>
        private IEnumerable<Piece> Stretch(Choice choice, List<int> guess)
        {
            var ids = _base.Ids(_answer);
            var open = new OpenTokens(_base.Tokenizer);
            var written = new List<int>();
            while (!_base.Ends(choice))
            {
                guess = guess.Count > 0 && guess[0] == choice.Token ? guess.GetRange(1, guess.Count - 1) : new List<int>();
                ids.Add(choice.Token);
                written.Add(choice.Token);
                var piece = open.Add(choice.Token, choice.Top1, _answer);
                if (piece != null)
                {
                    yield return piece;
                    if (_answer.IsFull || Loops(written))
                    {
                        yield break;
                    }
                    guess = guess.Count > 0 ? guess : FreshGuess(ids);
                }
                choice = Ask(ids, guess);
                // Inside a character the turn does not end, certain or not.
                if (open.IsEmpty && !IsCertain(choice))
                {
                    yield break;
                }
            }
            if (open.GiveUp(_answer) is { } rest)
            {
                yield return rest;
            }
        }

        /// <summary>Whether the last tokens of a stretch say again what the answer said before.</summary>
        private bool Loops(List<int> written)
        {
            if (written.Count < LoopTokens)
            {
                return false;
            }
            var text = _base.Tokenizer.TextOf(written.Skip(written.Count - LoopTokens));
            var before = Math.Max(0, _answer.Text.Length - text.Length);
            return Blanks.Words(text) > LoopWords
                && _answer.Text.IndexOf(text, 0, before, StringComparison.Ordinal) >= 0;
        }

        /// <summary>The base model's choice after <paramref name="ids"/>, read together with as much of a guess as pays.</summary>
        private Choice Ask(List<int> ids, List<int> guess)
        {
            var choice = _base.Next(ids, guess.Take(_speculation.Ahead(guess.Count)));
            if (guess.Count > 0)
            {
                _speculation.Saw(guess[0] == choice.Token, choice.Certain);
            }
            return choice;
        }

        /// <summary>The rest of a draft as the base model would spell it after the answer so far.</summary>
        private List<int> Guess(Draft draft, HandOver handOver)
        {
            var ids = _base.Ids(_answer);
            return RestOf(_base.Ids(_answer, draft, handOver, draft.Whole), ids);
        }

        /// <summary>A new draft ahead of the base model, where that pays and its next choice is not known yet.</summary>
        private List<int> FreshGuess(List<int> ids)
        {
            var length = _speculation.DraftLength();
            if (length == 0 || _base.Knows(ids))
            {
                return new List<int>();
            }
            try
            {
                var draft = _nudge.BeginDraft(_answer, length).Whole();
                return RestOf(_base.Ids(_answer, draft, default, draft.Whole), ids);
            }
            catch (ContextLengthException)
            {
                return new List<int>();
            }
        }

        /// <summary>What stands behind <paramref name="start"/> in <paramref name="whole"/>, if that begins with it.</summary>
        private static List<int> RestOf(List<int> whole, List<int> start) =>
            RememberedRows.CommonPrefix(whole, start) == start.Count
                ? whole.GetRange(start.Count, whole.Count - start.Count)
                : new List<int>();
    }
}
