using System;
using System.Numerics;
using System.Runtime.InteropServices;

namespace NudgeOnnx.Inference
{
    /// <summary>The softmax of one row of raw logits: its arg-max, and sums over <c>exp(logit - largest)</c>.</summary>
    internal readonly ref struct Softmax
    {
        private readonly ReadOnlySpan<float> _logits;
        private readonly float _largest;
        private readonly double _sum;

        /// <exception cref="LogitsException">A logit is NaN, or none is finite.</exception>
        internal Softmax(ReadOnlySpan<float> logits, string model)
        {
            _logits = logits;
            ArgMax = IndexOfLargest(logits);
            _largest = logits[ArgMax];
            if (float.IsNaN(_largest) || float.IsInfinity(_largest))
            {
                throw new LogitsException(model, _largest);
            }
            _sum = SumOfExponentials(logits, _largest);
        }

        /// <summary>The most probable token, the first of several.</summary>
        internal int ArgMax { get; }

        /// <summary>The largest probability.</summary>
        internal double Top1 => 1 / _sum;

        /// <summary>The largest probability minus the second largest.</summary>
        internal double Margin
        {
            get
            {
                var second = float.NegativeInfinity;
                for (var i = 0; i < _logits.Length; i++)
                {
                    second = i != ArgMax && _logits[i] > second ? _logits[i] : second;
                }
                return (1 - Math.Exp((double)second - _largest)) / _sum;
            }
        }

        /// <summary>Entropy over its maximum, log(vocabulary): 0 is one-hot, 1 is uniform.</summary>
        internal double Entropy
        {
            get
            {
                var weighted = 0.0;
                foreach (var logit in _logits)
                {
                    var shifted = Math.Max(logit - _largest, -100.0f);
                    weighted += Math.Exp(logit - _largest) * shifted;
                }
                return (Math.Log(_sum) - weighted / _sum) / Math.Log(_logits.Length);
            }
        }

        private static int IndexOfLargest(ReadOnlySpan<float> logits)
        {
            var best = 0;
            for (var i = 1; i < logits.Length; i++)
            {
                // Also true for NaN, which then stays.
                if (!(logits[i] <= logits[best]))
                {
                    best = i;
                }
                if (float.IsNaN(logits[best]))
                {
                    return best;
                }
            }
            return best;
        }

        /// <summary>
        /// The sum of <c>exp(logit - largest)</c>, eight or so at a time: .NET has no such function before version 9.
        /// exp(x) is 2 to the power of n = round(x / ln 2), times a polynomial of the rest, which is at most ln 2 / 2.
        /// </summary>
        private static double SumOfExponentials(ReadOnlySpan<float> logits, float largest)
        {
            var vectors = MemoryMarshal.Cast<float, Vector<float>>(logits);
            var sum = 0.0;
            var shift = new Vector<float>(largest);
            // Below this a term is nothing beside the 1 of the largest, and 2 to the power of n stays a normal number.
            var smallest = new Vector<float>(-80f);
            for (var block = 0; block < vectors.Length; block += 64)
            {
                // Short runs are summed in single precision, the runs in double.
                var partial = Vector<float>.Zero;
                for (var i = block; i < Math.Min(block + 64, vectors.Length); i++)
                {
                    partial += Exponential(Vector.Max(vectors[i] - shift, smallest));
                }
                sum += Vector.Dot(partial, Vector<float>.One);
            }
            for (var i = vectors.Length * Vector<float>.Count; i < logits.Length; i++)
            {
                sum += Math.Exp((double)logits[i] - largest);
            }
            return sum;
        }

        private static Vector<float> Exponential(Vector<float> x)
        {
            // x is never positive, so that cutting off a fraction of half less rounds to the nearest.
            var n = Vector.ConvertToInt32(x * new Vector<float>(1.44269504f) - new Vector<float>(0.5f));
            var whole = Vector.ConvertToSingle(n);
            var rest = x - whole * new Vector<float>(0.693359375f) + whole * new Vector<float>(2.12194440e-4f);
            var series = new Vector<float>(1.9875691500e-4f);
            series = series * rest + new Vector<float>(1.3981999507e-3f);
            series = series * rest + new Vector<float>(8.3334519073e-3f);
            series = series * rest + new Vector<float>(4.1665795894e-2f);
            series = series * rest + new Vector<float>(1.6666665459e-1f);
            series = series * rest + new Vector<float>(5.0000001201e-1f);
            series = series * rest * rest + rest + Vector<float>.One;
            var power = (n + new Vector<int>(127)) * new Vector<int>(1 << 23);
            return series * Vector.AsVectorSingle(power);
        }
    }
}
