using System;
using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Inference;

namespace NudgeOnnx.Decoding
{
    /// <summary>What followed the last one or two tokens before: a guess for a second row, where that pays.</summary>
    internal sealed class NGramGuesser
    {
        private const double Forget = 0.1;

        private readonly Costs _costs;
        private readonly Dictionary<(int, int), int> _after = new Dictionary<(int, int), int>();
        private List<int> _known = new List<int>();
        private double _hits = 0.5;
        private (int At, int Id)? _open;

        /// <param name="costs">What passes of the model cost.</param>
        internal NGramGuesser(Costs costs)
        {
            _costs = costs;
        }

        /// <summary>Take note of a text's ids.</summary>
        internal void Learn(IReadOnlyList<int> ids)
        {
            if (_open is { } open && open.At < ids.Count)
            {
                _hits += Forget * ((ids[open.At] == open.Id ? 1 : 0) - _hits);
                _open = null;
            }
            for (var end = RememberedRows.CommonPrefix(_known, ids); end < ids.Count; end++)
            {
                foreach (var order in new[] { 1, 2 }.Where(order => end >= order))
                {
                    _after[Key(ids, end, order)] = ids[end];
                }
            }
            _known = ids.ToList();
        }

        /// <summary>
        /// At most one id that may come after <paramref name="ids"/>; none while guesses cost more than they save.
        /// </summary>
        internal IReadOnlyList<int> Guess(IReadOnlyList<int> ids)
        {
            foreach (var order in new[] { 2, 1 }.Where(order => ids.Count >= order))
            {
                if (_after.TryGetValue(Key(ids, ids.Count, order), out var known))
                {
                    _open = (ids.Count, known);
                    var pays = (1 + _hits) * _costs.Of(1) >= _costs.Of(2);
                    return pays ? new[] { known } : Array.Empty<int>();
                }
            }
            return Array.Empty<int>();
        }

        /// <summary>The last one (the other is -1) or two ids before <paramref name="end"/>.</summary>
        private static (int, int) Key(IReadOnlyList<int> ids, int end, int order) =>
            (order == 2 ? ids[end - 2] : -1, ids[end - 1]);
    }
}
