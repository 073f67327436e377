using System;

namespace NudgeOnnx.Inference
{
    /// <summary>
    /// A running mean of the time of passes, by their number of rows. What a size is usually known to cost counts as a
    /// first measurement, and a mean above it goes down while other sizes are used.
    /// </summary>
    internal sealed class Costs
    {
        /// <summary>Passes of up to so many rows are counted together.</summary>
        internal static readonly int[] Buckets = { 1, 2, 4, 8, 16 };

        // What a pass costs beside one of one row before it was ever measured (int8 weights on a CPU).
        private static readonly double[] Prior = { 1.0, 1.1, 1.5, 2.2, 3.6 };
        private const double Forget = 0.1;

        // A size that once seemed dear would not be used, and so not be measured, again.
        private const double Doubt = 0.05;

        private readonly int _leastRows;
        private readonly double?[] _seconds = new double?[Buckets.Length];
        private readonly int[] _counts = new int[Buckets.Length];

        /// <param name="leastRows">Rows of the smallest pass.</param>
        internal Costs(int leastRows)
        {
            _leastRows = leastRows;
        }

        /// <summary>Count a pass; one of more rows than a draft has is a prefill and says nothing here.</summary>
        internal void Add(int rows, double seconds)
        {
            if (rows > Buckets[Buckets.Length - 1])
            {
                return;
            }
            var bucket = BucketOf(rows);
            var expected = Of(rows);
            var known = expected > 0 ? expected : seconds;
            _counts[bucket]++;
            var weight = Math.Max(Forget, 1.0 / (1 + _counts[bucket]));
            // A pause of the machine is no cost of the pass.
            var mean = known + weight * (Math.Min(seconds, 3 * known) - known);
            _seconds[bucket] = mean;
            for (var other = 0; other < _seconds.Length; other++)
            {
                if (other != bucket && _seconds[other] is double cost)
                {
                    _seconds[other] = cost - Doubt * Math.Max(0, cost - mean * Prior[other] / Prior[bucket]);
                }
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
