using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using Microsoft.ML.OnnxRuntime;

namespace NudgeOnnx.Inference
{
    /// <summary>
    /// One model as a decoder: feed ids, get what the outputs make of its rows, rewind. Knows nothing of nudging. Not for two
    /// threads at once.
    /// </summary>
    internal sealed class Decoder : IDisposable
    {
        // ONNX Runtime takes another matrix kernel for one row than for several, and in quantised graphs its result differs
        // enough to change an arg-max. A pass has at least two rows, so that reading ahead cannot change an answer, unless the
        // graph was made such that a row has the same bits in a pass of any size (which was measured on a CPU).
        private const int LeastRows = 2;

        // ONNX Runtime's matrix product sums a row longer than 128 in one go or in two halves, depending on whether the last
        // block of 128 columns is at most half full. In attention the rows are heads and the columns positions, so with wide
        // heads a pass must stay within 64 positions for its logits not to depend on where it ends.
        private const int WideHead = 128;
        private const int Segment = 64;

        private readonly Graph _graph;
        private readonly KvCache _cache;
        private readonly RunOptions _runOptions = new RunOptions();
        private readonly List<int> _ids = new List<int>();
        private readonly bool _segmented;
        private readonly int _leastRows;
        private readonly int? _promptRows;
        private long[] _ones = Array.Empty<long>();

        internal Decoder(Graph graph)
        {
            _graph = graph;
            _cache = KvCache.Make(graph);
            var steady = graph.Record.SteadyRows && graph.Provider == "cpu";
            _segmented = graph.Record.Cache.HeadSize > WideHead && !steady;
            _leastRows = steady ? 1 : LeastRows;
            _promptRows = graph.Record.PromptRows;
            // What a pass is filled up with is written, too.
            ContextLength = graph.Record.ContextLength - (_leastRows - 1);
            Costs = new Costs(_leastRows);
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
        internal Costs Costs { get; }

        /// <summary>Forget all positions from <paramref name="length"/> on; nothing is fed again.</summary>
        internal void Rewind(int length)
        {
            _cache.Rewind(length);
            _ids.RemoveRange(Math.Min(length, _ids.Count), Math.Max(0, _ids.Count - length));
        }

        /// <summary>
        /// Keep the first <paramref name="kept"/> positions and read <paramref name="ids"/> (at least one) behind them as a prompt.
        /// What is cached may differ in its last bits from what <see cref="Feed"/> would have cached, where a prompt can be read
        /// faster: on an empty cache, or, with a cache of int8, if it has more than PromptRows ids.
        /// </summary>
        /// <returns>The choice after the last.</returns>
        /// <exception cref="ContextLengthException">The context has no room.</exception>
        /// <exception cref="LogitsException">The model returned broken logits.</exception>
        internal List<Choice> Prefill(IReadOnlyList<int> ids, int kept, Outputs outputs)
        {
            Rewind(kept);
            CheckRoom(ids.Count);
            return Read(PromptParts(ids), 1, outputs);
        }

        /// <summary>Append <paramref name="ids"/> (at least one) to the cache.</summary>
        /// <returns>
        /// The choice after each of the last <paramref name="rows"/> ids. Their logits are the same to the last bit however the
        /// ids are spread over calls.
        /// </returns>
        /// <exception cref="ContextLengthException">The context has no room.</exception>
        /// <exception cref="LogitsException">The model returned broken logits.</exception>
        internal List<Choice> Feed(IReadOnlyList<int> ids, int rows, Outputs outputs)
        {
            CheckRoom(ids.Count);
            return Read(Parts(ids), rows, outputs);
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            _runOptions.Dispose();
            _cache.Dispose();
        }

        private void CheckRoom(int count)
        {
            if (Length + count > ContextLength)
            {
                throw new ContextLengthException(
                    $"{Length + count} tokens do not fit the context of {ContextLength}; shorten the prompt");
            }
        }

        /// <summary>The choice after each of the last <paramref name="rows"/> ids of passes over <paramref name="parts"/>.</summary>
        private List<Choice> Read(List<List<int>> parts, int rows, Outputs outputs)
        {
            var choices = new List<Choice>();
            var left = parts.Sum(part => part.Count);
            foreach (var part in parts)
            {
                left -= part.Count;
                // Those of the last rows that are in this part.
                choices.AddRange(Pass(part, Math.Min(part.Count, Math.Max(0, rows - left)), outputs));
            }
            return choices;
        }

        /// <summary>Ids in passes whose rows have the bits of rows read singly.</summary>
        private List<List<int>> Parts(IReadOnlyList<int> ids)
        {
            if (_segmented)
            {
                return Cut(ids, Segment - Length % Segment, Segment);
            }
            var longest = _promptRows is int rows ? rows - 1 : ids.Count;
            return Cut(ids, longest, longest);
        }

        /// <summary>Ids of a prompt in passes: a long one whole, but for its last id, which a repetition reads alone.</summary>
        private List<List<int>> PromptParts(IReadOnlyList<int> ids)
        {
            if (!(_promptRows is int rows))
            {
                return Length > 0 ? Parts(ids) : new List<List<int>> { ids.ToList() };
            }
            return ids.Count > rows ? Cut(ids, ids.Count - 1, 1) : Parts(ids);
        }

        /// <summary>Ids cut at <paramref name="first"/>, and every <paramref name="size"/> from there on.</summary>
        private static List<List<int>> Cut(IReadOnlyList<int> ids, int first, int size)
        {
            var parts = new List<List<int>>();
            for (int start = 0, length = first; start < ids.Count; start += length, length = size)
            {
                length = Math.Min(length, ids.Count - start);
                parts.Add(ids.Skip(start).Take(length).ToList());
            }
            return parts;
        }

        /// <summary>The choice after each of the last <paramref name="rows"/> ids of one pass.</summary>
        private List<Choice> Pass(List<int> ids, int rows, Outputs outputs)
        {
            var clock = Stopwatch.StartNew();
            var past = Length;
            int start;
            // Filled up, the last id before the edge of a segment would reach into the next.
            if (_segmented && ids.Count == 1 && (past + 1) % Segment == 0)
            {
                // The id before is read again instead: same bits.
                _cache.Rewind(past - 1);
                start = Run(new List<int> { _ids[past - 1], ids[0] }, 2 - rows, 2, outputs);
            }
            else if (ids.Count >= _leastRows)
            {
                start = Run(ids, ids.Count - rows, ids.Count, outputs);
            }
            else
            {
                start = Run(new List<int> { ids[0], ids[0] }, 1 - rows, 1, outputs);
                _cache.Rewind(past + 1);
            }
            _ids.AddRange(ids);
            Costs.Add(ids.Count, clock.Elapsed.TotalSeconds);
            Fed += ids.Count;
            Passes++;
            return Enumerable.Range(start, rows).Select(outputs.Choose).ToList();
        }

        /// <summary>
        /// A pass over <paramref name="ids"/>, of which the rows from <paramref name="first"/> up to <paramref name="last"/> are
        /// wanted.
        /// </summary>
        /// <returns>Where the first of them is in <paramref name="outputs"/>.</returns>
        private int Run(List<int> ids, int first, int last, Outputs outputs)
        {
            var io = _graph.Record.Io;
            var (past, fresh, binding) = (Length, ids.Count, outputs.Binding);
            // A binding does not keep managed memory in place; these do, until the pass is over.
            var held = new List<OrtValue> { Bind(binding, io.InputIds, ids.Select(id => (long)id).ToArray(), 1, fresh) };
            try
            {
                if (io.AttentionMask != null)
                {
                    held.Add(Bind(binding, io.AttentionMask, Ones(past + fresh), 1, past + fresh));
                }
                if (io.PositionIds != null)
                {
                    held.Add(Bind(binding, io.PositionIds, Numbers(past, past + fresh), 1, fresh));
                }
                var (begin, end) = (0, fresh);
                if (io.LogitsRows != null)
                {
                    // The head is a matrix product too, so it also gets its least number of rows.
                    begin = Math.Max(0, Math.Min(first, last - _leastRows));
                    end = Math.Max(last, _leastRows);
                    held.Add(Bind(binding, io.LogitsRows, Numbers(begin, end), end - begin));
                }
                _cache.Bind(binding, fresh);
                outputs.Bind(end - begin);
                Execute(binding);
                _cache.Advance(binding, fresh);
                return first - begin;
            }
            finally
            {
                held.ForEach(value => value.Dispose());
            }
        }

        private void Execute(OrtIoBinding binding)
        {
            try
            {
                _graph.Session.RunWithBinding(_runOptions, binding);
            }
            catch (OnnxRuntimeException error)
            {
                throw new NudgeException($"the {_graph.Role} model failed: {error.Message.Split('\n')[0]}");
            }
        }

        private static OrtValue Bind(OrtIoBinding binding, string name, long[] numbers, params long[] shape)
        {
            var count = (int)shape.Aggregate(1L, (product, size) => product * size);
            var value = OrtValue.CreateTensorValueFromMemory(
                OrtMemoryInfo.DefaultInstance, numbers.AsMemory(0, count), shape);
            binding.BindInput(name, value);
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
    }
}
