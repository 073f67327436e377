using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using Microsoft.ML.OnnxRuntime;

namespace NudgeOnnx.Inference
{
    /// <summary>One model as a decoder: feed ids, get logits, rewind. Knows nothing of nudging. Not for two threads at once.</summary>
    internal sealed class Decoder : IDisposable
    {
        // ONNX Runtime takes another matrix kernel for one row than for several, and in quantised graphs its result differs
        // enough to change an arg-max. Every pass has at least two rows, so that reading ahead cannot change an answer.
        private const int LeastRows = 2;

        // ONNX Runtime's matrix product sums a row longer than 128 in one go or in two halves, depending on whether the last
        // block of 128 columns is at most half full. In attention the rows are heads and the columns positions, so with wide
        // heads a pass must stay within 64 positions for its logits not to depend on where it ends.
        private const int WideHead = 128;
        private const int Segment = 64;

        // Rows that a draft can have; more than these are a prefill.
        private const int MostKeptRows = 32;

        private readonly Graph _graph;
        private readonly KvCache _cache;
        private readonly OrtIoBinding _binding;
        private readonly RunOptions _runOptions = new RunOptions();
        private readonly Dictionary<int, (float[] Numbers, OrtValue Tensor)> _logits =
            new Dictionary<int, (float[], OrtValue)>();
        private readonly List<int> _ids = new List<int>();
        private readonly bool _segmented;
        private long[] _ones = Array.Empty<long>();

        internal Decoder(Graph graph)
        {
            _graph = graph;
            _cache = KvCache.Make(graph);
            _binding = graph.Session.CreateIoBinding();
            _segmented = graph.Record.Cache.HeadSize > WideHead;
            ContextLength = graph.Record.ContextLength - (LeastRows - 1);
        }

        /// <summary>Positions that may be fed in all.</summary>
        internal int ContextLength { get; }

        /// <summary>Positions in the cache.</summary>
        internal int Length => _cache.Length;

        /// <summary>Tokens fed since the decoder was made.</summary>
        internal long Fed { get; private set; }

        /// <summary>Forward passes since the decoder was made.</summary>
        internal long Passes { get; private set; }

        /// <summary>What passes cost, by their number of rows.</summary>
        internal Costs Costs { get; } = new Costs();

        private int Vocabulary => _graph.Record.VocabularySize;

        /// <summary>Forget all positions from <paramref name="length"/> on; nothing is fed again.</summary>
        internal void Rewind(int length)
        {
            _cache.Rewind(length);
            _ids.RemoveRange(Math.Min(length, _ids.Count), Math.Max(0, _ids.Count - length));
        }

        /// <summary>
        /// Start anew with <paramref name="ids"/>, read in one pass. In models with wide heads the last bits of what is cached
        /// may differ from what <see cref="Feed"/> would have cached.
        /// </summary>
        /// <returns>The logits after the last: memory that the next call overwrites.</returns>
        /// <exception cref="ContextLengthException">The context has no room.</exception>
        internal ReadOnlyMemory<float> Prefill(IReadOnlyList<int> ids)
        {
            Rewind(0);
            CheckRoom(ids.Count);
            return Pass(ids.ToList(), 1);
        }

        /// <summary>Append <paramref name="ids"/> (at least one) to the cache.</summary>
        /// <returns>
        /// The logits after each of the last <paramref name="rows"/> ids, one after the other: memory that the next call
        /// overwrites. They are the same to the last bit however the ids are spread over calls.
        /// </returns>
        /// <exception cref="ContextLengthException">The context has no room.</exception>
        internal ReadOnlyMemory<float> Feed(IReadOnlyList<int> ids, int rows)
        {
            CheckRoom(ids.Count);
            var parts = Parts(ids);
            if (parts.Count == 1)
            {
                return Pass(parts[0], rows);
            }
            var logits = new float[rows * Vocabulary];
            var (left, written) = (ids.Count, 0);
            foreach (var part in parts)
            {
                left -= part.Count;
                // Those of the last rows that are in this part; a copy, for the next pass overwrites them.
                var found = Pass(part, Math.Min(part.Count, Math.Max(0, rows - left)));
                found.CopyTo(logits.AsMemory(written));
                written += found.Length;
            }
            return logits;
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            _binding.Dispose();
            _runOptions.Dispose();
            _cache.Dispose();
            foreach (var (_, tensor) in _logits.Values)
            {
                tensor.Dispose();
            }
        }

        private void CheckRoom(int count)
        {
            if (Length + count > ContextLength)
            {
                throw new ContextLengthException(
                    $"{Length + count} tokens do not fit the context of {ContextLength}; shorten the prompt");
            }
        }

        /// <summary>Ids in the passes that they take.</summary>
        private List<List<int>> Parts(IReadOnlyList<int> ids)
        {
            var parts = new List<List<int>>();
            for (int start = 0, size; start < ids.Count; start += size)
            {
                size = _segmented ? Segment - (Length + start) % Segment : ids.Count;
                parts.Add(ids.Skip(start).Take(size).ToList());
            }
            return parts;
        }

        /// <summary>The logits after each of the last <paramref name="rows"/> ids of one pass.</summary>
        private ReadOnlyMemory<float> Pass(List<int> ids, int rows)
        {
            var clock = Stopwatch.StartNew();
            var past = Length;
            ReadOnlyMemory<float> logits;
            if (ids.Count >= LeastRows)
            {
                logits = Run(ids, ids.Count - rows, ids.Count);
            }
            else if (_segmented && (past + 1) % Segment == 0)
            {
                // One more id would belong to the next segment, so the id before is read again instead: same bits.
                _cache.Rewind(past - 1);
                logits = Run(new List<int> { _ids[past - 1], ids[0] }, 2 - rows, 2);
            }
            else
            {
                logits = Run(new List<int> { ids[0], ids[0] }, 1 - rows, 1);
                _cache.Rewind(past + 1);
            }
            _ids.AddRange(ids);
            Costs.Add(ids.Count, clock.Elapsed.TotalSeconds);
            Fed += ids.Count;
            Passes++;
            return logits;
        }

        /// <summary>Logits of the rows from <paramref name="first"/> up to <paramref name="last"/> of a pass over <paramref name="ids"/>.</summary>
        private ReadOnlyMemory<float> Run(List<int> ids, int first, int last)
        {
            var io = _graph.Record.Io;
            var (past, fresh) = (Length, ids.Count);
            // A binding does not keep managed memory in place; these do, until the pass is over.
            var held = new List<OrtValue> { Bind(io.InputIds, ids.Select(id => (long)id).ToArray(), 1, fresh) };
            try
            {
                if (io.AttentionMask != null)
                {
                    held.Add(Bind(io.AttentionMask, Ones(past + fresh), 1, past + fresh));
                }
                if (io.PositionIds != null)
                {
                    held.Add(Bind(io.PositionIds, Numbers(past, past + fresh), 1, fresh));
                }
                var (begin, end) = (0, fresh);
                if (io.LogitsRows != null)
                {
                    // The head is a matrix product too, so it also gets its least number of rows.
                    begin = Math.Max(0, Math.Min(first, last - LeastRows));
                    end = Math.Max(last, LeastRows);
                    held.Add(Bind(io.LogitsRows, Numbers(begin, end), end - begin));
                }
                _cache.Bind(_binding, fresh);
                var (numbers, tensor) = LogitsFor(end - begin, held);
                _binding.BindOutput(io.Logits, tensor);
                Execute();
                _cache.Advance(_binding, fresh);
                return numbers.AsMemory((first - begin) * Vocabulary, (last - first) * Vocabulary);
            }
            finally
            {
                held.ForEach(value => value.Dispose());
            }
        }

        private void Execute()
        {
            try
            {
                _graph.Session.RunWithBinding(_runOptions, _binding);
            }
            catch (OnnxRuntimeException error)
            {
                throw new NudgeException($"the {_graph.Role} model failed: {error.Message.Split('\n')[0]}");
            }
        }

        private OrtValue Bind(string name, long[] numbers, params long[] shape)
        {
            var count = (int)shape.Aggregate(1L, (product, size) => product * size);
            var value = OrtValue.CreateTensorValueFromMemory(
                OrtMemoryInfo.DefaultInstance, numbers.AsMemory(0, count), shape);
            _binding.BindInput(name, value);
            return value;
        }

        private long[] Ones(int length)
        {
            if (_ones.Length < length)
            {
                _ones = Enumerable.Repeat(1L, 2 * length).ToArray();
            }
            return _ones;
        }

        private static long[] Numbers(int from, int to) =>
            Enumerable.Range(from, to - from).Select(number => (long)number).ToArray();

        /// <summary>Where a pass writes the logits of some rows. A draft has few sizes, so each of those keeps its buffer.</summary>
        private (float[] Numbers, OrtValue Tensor) LogitsFor(int rows, List<OrtValue> held)
        {
            if (_logits.TryGetValue(rows, out var known))
            {
                return known;
            }
            var numbers = new float[rows * Vocabulary];
            var tensor = OrtValue.CreateTensorValueFromMemory(numbers, new long[] { 1, rows, Vocabulary });
            if (rows > MostKeptRows)
            {
                held.Add(tensor);
            }
            else
            {
                _logits[rows] = (numbers, tensor);
            }
            return (numbers, tensor);
        }
    }
}
