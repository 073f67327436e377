using System;

namespace NudgeOnnx.Inference
{
    /// <summary>A running mean of the time of passes, by their number of rows.</summary>
    internal sealed class Costs
    {
        /// <summary>Passes of up to so many rows are counted together.</summary>
        internal static readonly int[] Buckets = { 1, 2, 4, 8, 16 };

        // What a pass costs beside one of one row before it was ever measured (int8 weights on a CPU).
        private static readonly double[] Prior = { 1.0, 1.1, 1.5, 2.2, 3.6 };
        private const double Forget = 0.1;

        private readonly int _leastRows;
        private readonly double?[] _seconds = new double?[Buckets.Length];

        /// <param name="leastRows">Rows of the smallest pass.</param>
        internal Costs(int leastRows)
        {
            _leastRows = leastRows;
        }

        /// <summary>Count a pass; one of more rows than a draft has is a prefill and says nothing here.</summary>
        internal void Add(int rows, double seconds)
        {
            if (rows <= Buckets[Buckets.Length - 1])
            {
                var bucket = BucketOf(rows);
                var known = _seconds[bucket] ?? seconds;
                // A pause of the machine is no cost of the pass.
                _seconds[bucket] = known + Forget * (Math.Min(seconds, 3 * known) - known);
            }
        }

        /// <summary>Seconds of a pass of <paramref name="rows"/> rows; 0 while nothing is known.</summary>
        internal double Of(int rows)
        {
            var bucket = BucketOf(rows);
            var measured = Array.FindIndex(_seconds, seconds => seconds != null);
            return _seconds[bucket]
                ?? (measured < 0 ? 0 : _seconds[measured]!.Value * Prior[bucket] / Prior[measured]);
        }

        private int BucketOf(int rows)
        {
            var bucket = Array.FindIndex(Buckets, most => Math.Max(rows, _leastRows) <= most);
            return bucket < 0 ? Buckets.Length - 1 : bucket;
        }
    }
}
