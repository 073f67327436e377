using System;
using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Inference;

namespace NudgeOnnx.Decoding
{
    /// <summary>What followed the last one or two tokens before: a guess that fills the second row, which a pass has anyway.</summary>
    internal sealed class Habit
    {
        private readonly Dictionary<(int, int), int> _after = new Dictionary<(int, int), int>();
        private List<int> _known = new List<int>();

        /// <summary>Take note of a text's ids.</summary>
        internal void Learn(IReadOnlyList<int> ids)
        {
            for (var end = Reader.CommonPrefix(_known, ids); end < ids.Count; end++)
            {
                foreach (var order in new[] { 1, 2 }.Where(order => end >= order))
                {
                    _after[Key(ids, end, order)] = ids[end];
                }
            }
            _known = ids.ToList();
        }

        /// <summary>At most one id that may come after <paramref name="ids"/>.</summary>
        internal IReadOnlyList<int> Guess(IReadOnlyList<int> ids)
        {
            foreach (var order in new[] { 2, 1 }.Where(order => ids.Count >= order))
            {
                if (_after.TryGetValue(Key(ids, ids.Count, order), out var known))
                {
                    return new[] { known };
                }
            }
            return Array.Empty<int>();
        }

        /// <summary>The last one (the other is -1) or two ids before <paramref name="end"/>.</summary>
        private static (int, int) Key(IReadOnlyList<int> ids, int end, int order) =>
            (order == 2 ? ids[end - 2] : -1, ids[end - 1]);
    }
}
