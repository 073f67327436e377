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

        // Rows that a draft can have; more than these are a prefill.
        private const int MostKeptRows = 32;

        private readonly Graph _graph;
        private readonly KvCache _cache;
        private readonly OrtIoBinding _binding;
        private readonly RunOptions _runOptions = new RunOptions();
        private readonly Dictionary<int, (float[] Numbers, OrtValue Tensor)> _logits =
            new Dictionary<int, (float[], OrtValue)>();
        private long[] _ones = Array.Empty<long>();

        internal Decoder(Graph graph)
        {
            _graph = graph;
            _cache = KvCache.Make(graph);
            _binding = graph.Session.CreateIoBinding();
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
        internal void Rewind(int length) => _cache.Rewind(length);

        /// <summary>Append <paramref name="ids"/> (at least one) to the cache in one pass.</summary>
        /// <returns>
        /// The logits after each of the last <paramref name="rows"/> ids, one after the other: memory that the next call
        /// overwrites.
        /// </returns>
        /// <exception cref="ContextLengthException">The context has no room.</exception>
        internal ReadOnlyMemory<float> Feed(IReadOnlyList<int> ids, int rows)
        {
            if (Length + ids.Count > ContextLength)
            {
                throw new ContextLengthException(
                    $"{Length + ids.Count} tokens do not fit the context of {ContextLength}; shorten the prompt");
            }
            var padding = Math.Max(0, LeastRows - ids.Count);
            var fed = ids.Concat(Enumerable.Repeat(ids[ids.Count - 1], padding)).Select(id => (long)id).ToArray();
            var clock = Stopwatch.StartNew();
            var logits = Run(fed, ids.Count - rows, ids.Count);
            _cache.Rewind(Length - padding);
            Costs.Add(ids.Count, clock.Elapsed.TotalSeconds);
            Fed += ids.Count;
            Passes++;
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

        /// <summary>Logits of the rows from <paramref name="first"/> up to <paramref name="last"/> of a pass over <paramref name="ids"/>.</summary>
        private ReadOnlyMemory<float> Run(long[] ids, int first, int last)
        {
            var io = _graph.Record.Io;
            var (past, fresh) = (Length, ids.Length);
            // A binding does not keep managed memory in place; these do, until the pass is over.
            var held = new List<OrtValue> { Bind(io.InputIds, ids, 1, fresh) };
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
