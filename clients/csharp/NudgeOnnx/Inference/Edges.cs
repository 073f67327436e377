using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Bundles;

namespace NudgeOnnx.Inference
{
    /// <summary>
    /// Where a pass must end so that its rows are computed as each would be by itself. Some kernels are chosen by the number
    /// of positions before a pass, or behind it; a pass that ends at these edges is on one side of each of them.
    /// </summary>
    internal sealed class Edges
    {
        // ONNX Runtime's matrix product sums a row longer than 128 in one go or in two halves, depending on whether the last
        // block of 128 columns is at most half full. In attention over floats the rows are heads and the columns positions,
        // so with wide heads a pass must stay within 64 positions for its logits not to depend on where it ends.
        private const int WideHead = 128;
        private const int Segment = 64;

        // Attention with a window reads a copy of the cache when a text is longer than twice the window and a block. The copy
        // begins at the last multiple of a block that is no later than what the first row of the pass sees.
        private const int Block = 128;

        private readonly List<(int Window, int Edge)> _windows;

        internal Edges(ModelRecord record)
        {
            Segmented = record.Cache.HeadSize > WideHead && record.Cache.Dtype != "int8";
            _windows = (record.Windows ?? new int[0]).Select(window => (window, 2 * window + Block)).ToList();
        }

        /// <summary>Whether attention adds up in another order on both sides of some of them.</summary>
        internal bool Segmented { get; }

        /// <summary>Edges behind <paramref name="past"/> and before <paramref name="end"/> positions, ascending.</summary>
        internal IEnumerable<int> Between(int past, int end)
        {
            var found = new SortedSet<int>();
            foreach (var (first, step) in Rows(past))
            {
                for (long at = first; at < end; at += step)
                {
                    found.Add((int)at);
                }
            }
            return found;
        }

        /// <summary>Whether a pass may not reach beyond a position, not even with a row that is rewound.</summary>
        internal bool EndsAt(int position) =>
            (Segmented && position % Segment == 0) || _windows.Any(window => window.Edge == position);

        /// <summary>Rows of edges, each by its first one behind <paramref name="past"/> and its step.</summary>
        private IEnumerable<(int First, int Step)> Rows(int past)
        {
            if (Segmented)
            {
                yield return (past + Segment - past % Segment, Segment);
            }
            foreach (var (window, edge) in _windows)
            {
                if (past < edge)
                {
                    yield return (edge, int.MaxValue);
                }
                var near = past > edge ? past : edge;
                yield return (near + Block - (near - window + 1) % Block, Block);
            }
        }
    }
}
