using System;
using System.Linq;
using NudgeOnnx.Inference;

namespace NudgeOnnx.Decoding
{
    /// <summary>When to read ahead of the base model: decided by measured cost and acceptance, without a say in the answer.</summary>
    internal sealed class Speculation
    {
        private const double Forget = 0.1;

        // Drafting ahead must promise this much before it is tried: a wrong promise costs time, a missed one does not.
        private const double Margin = 0.9;

        private readonly int? _given;
        private readonly Costs _base;
        private readonly Costs _nudge;
        private double _hits = 0.5;
        private double _kept = 0.5;

        /// <param name="given">How many tokens to read ahead wherever there is a guess; <c>null</c>: what pays.</param>
        /// <param name="baseCosts">What passes of the base model cost.</param>
        /// <param name="nudgeCosts">What passes of the nudging model cost.</param>
        internal Speculation(int? given, Costs baseCosts, Costs nudgeCosts)
        {
            _given = given;
            _base = baseCosts;
            _nudge = nudgeCosts;
        }

        /// <summary>Whether nothing is to be read ahead.</summary>
        internal bool IsOff => _given == 0;

        /// <summary>Note whether the base model's next token was the guessed one, and whether it was certain of it.</summary>
        internal void Saw(bool hit, bool certain)
        {
            _hits += Forget * ((hit ? 1 : 0) - _hits);
            if (!(hit && certain))
            {
                // Where the base model hands over, the rest of a draft is what the nudging model goes on with.
                _kept += Forget * ((certain ? 0 : 1) - _kept);
            }
        }

        /// <summary>How many of the <paramref name="available"/> guessed tokens to read in the base model's next pass.</summary>
        internal int Ahead(int available)
        {
            if (_given is { } given)
            {
                return Math.Min(given, available);
            }
            var best = 0;
            var bestRate = Rate(0);
            foreach (var bucket in Costs.Buckets.Skip(1))
            {
                var count = Math.Min(bucket - 1, available);
                var rate = Rate(count);
                // Before anything was measured all rates are zero, and the first guess is as good as free.
                (best, bestRate) = rate > bestRate || (best == 0 && rate == 0) ? (count, rate) : (best, bestRate);
            }
            return best;
        }

        /// <summary>How many tokens to draft afresh for the base model to check; 0 where that does not pay.</summary>
        internal int DraftLength()
        {
            if (_given is { } given)
            {
                return given;
            }
            var best = 0;
            var bestRate = Rate(0) / Margin;
            foreach (var bucket in Costs.Buckets.Skip(1))
            {
                var count = bucket - 1;
                var rate = Rate(count, drafted: true);
                (best, bestRate) = rate > bestRate ? (count, rate) : (best, bestRate);
            }
            return best;
        }

        /// <summary>Tokens of the base model per second, expected of a pass that checks <paramref name="count"/> guesses.</summary>
        private double Rate(int count, bool drafted = false)
        {
            var accepted = Enumerable.Range(1, count).Sum(power => Math.Pow(_hits, power));
            var seconds = _base.Of(1 + count);
            if (drafted)
            {
                seconds += (count - _kept * (count - accepted)) * _nudge.Of(1);
            }
            return seconds > 0 ? (1 + accepted) / seconds : 0;
        }
    }
}
