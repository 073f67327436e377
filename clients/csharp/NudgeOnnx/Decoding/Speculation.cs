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

        /// <param name="given">How many tokens to read ahead wherever there is a guess; <c>null</c>: what pays.</param>
        /// <param name="baseCosts">What passes of the base model cost.</param>
        /// <param name="nudgeCosts">What passes of the nudging model cost.</param>
        internal Speculation(int? given, Costs baseCosts, Costs nudgeCosts)
        {
            _given = given;
            _base = baseCosts;
            _nudge = nudgeCosts;
        }

        /// <summary>Note whether the base model wrote what was guessed next.</summary>
        internal void Saw(bool hit) => _hits += Forget * ((hit ? 1 : 0) - _hits);

        /// <summary>How many of the <paramref name="available"/> guessed tokens to read in the base model's next pass.</summary>
        internal int Ahead(int available)
        {
            if (_given is { } given)
            {
                return Math.Min(given, available);
            }
            // A pass has two rows at the least, so one guess is free.
            var best = Math.Min(1, available);
            var bestRate = Rate(1, 0);
            foreach (var bucket in Costs.Buckets.Skip(1))
            {
                var count = Math.Min(bucket - 1, available);
                var rate = Rate(count, 0);
                (best, bestRate) = rate > bestRate ? (count, rate) : (best, bestRate);
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
            var bestRate = Rate(0, 0) / Margin;
            foreach (var bucket in Costs.Buckets.Skip(1))
            {
                var count = bucket - 1;
                var rate = Rate(count, count * _nudge.Of(1));
                (best, bestRate) = rate > bestRate ? (count, rate) : (best, bestRate);
            }
            return best;
        }

        /// <summary>Tokens of the base model per second, expected of a pass that checks <paramref name="count"/> guesses.</summary>
        private double Rate(int count, double drafting)
        {
            var seconds = _base.Of(1 + count) + drafting;
            var tokens = Enumerable.Range(0, count + 1).Sum(power => Math.Pow(_hits, power));
            return seconds > 0 ? tokens / seconds : 0;
        }
    }
}
