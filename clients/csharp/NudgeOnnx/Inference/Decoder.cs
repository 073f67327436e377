using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using NudgeOnnx.Text;

namespace NudgeOnnx.Inference
{
    /// <summary>
    /// One model as a decoder: feed ids, get what the outputs make of its rows, rewind. Knows nothing of nudging. Not for two
    /// threads at once.
    /// </summary>
    internal sealed class Decoder : IDisposable
    {
        // Most ids of a pass: between passes a cancelled stream ends.
        private const int LongestPass = 512;

        private readonly ModelSession _model;
        private readonly KvCache _cache;
        private readonly RunOptions _runOptions = new RunOptions();
        private readonly List<int> _ids = new List<int>();
        private readonly List<int> _blocks = new List<int>(); // that were read in one pass each, and of which something may be held
        private readonly Edges _edges;
        private readonly bool _singly;
        private readonly bool _inBlocks;
        private readonly int _leastRows;
        private readonly int? _promptRows;
        private long[] _ones = Array.Empty<long>();

        /// <param name="model">The model.</param>
        /// <param name="rows">Which of its passes share bits; <c>null</c>: as was found.</param>
        internal Decoder(ModelSession model, RowBits? rows = null)
        {
            _model = model;
            _cache = KvCache.Make(model);
            _edges = new Edges(model.Record);
            _promptRows = model.Record.PromptRows;
            var bits = rows ?? model.Rows;
            // ONNX Runtime may take another matrix kernel for one row than for several, and in quantised graphs its result
            // differs enough to change an arg-max. So a pass has two rows at the least where those agree and one does not.
            _leastRows = bits == RowBits.Pairs ? 2 : 1;
            // Where no passes share bits each id is read by itself: what is cached must not depend on how it was asked for.
            _singly = bits == RowBits.None;
            // Whether the rows of a large pass have other bits than those of a smaller one.
            _inBlocks = _singly || _edges.Segmented || _promptRows != null;
            // What a pass is filled up with is written, too.
            ContextLength = model.Record.ContextLength - (_leastRows - 1);
            Costs = new Costs(_leastRows);
        }

        /// <summary>Whether ids that may come next can be read in the same pass.</summary>
        internal bool ReadsAhead => !_singly;

        /// <summary>Called before each pass; what it throws ends the call, and nothing of that pass was done.</summary>
        internal Action BeforePass { get; set; } = () => { };

        /// <summary>Positions that may be fed in all.</summary>
        internal int ContextLength { get; }

        /// <summary>Positions in the cache whose ids are known; a pass that did not end adds none.</summary>
        internal int Length => Math.Min(_cache.Length, _ids.Count);

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
            _blocks.RemoveAll(block => block * PromptBlocks.Size >= length);
        }

        /// <summary>Let the pass that runs, or the next one, end with an error, or no longer.</summary>
        internal void Terminate(bool passes) => _runOptions.Terminate = passes;

        /// <summary>Start behind so many positions of noise: reading as many ids would take long.</summary>
        internal void Pretend(int length)
        {
            _cache.Pretend(length);
            _ids.Clear();
            _ids.AddRange(Enumerable.Repeat(0, length));
        }

        /// <summary>
        /// How many of the first <paramref name="shared"/> positions, whose ids are a prompt's, have the bits that it wants.
        /// <paramref name="blocks"/> are those that the prompt has read in one pass each.
        /// </summary>
        internal int Kept(int shared, IReadOnlyCollection<int> blocks)
        {
            for (var block = 0; _inBlocks && block * PromptBlocks.Size < shared; block++)
            {
                var whole = blocks.Contains(block);
                if (whole != _blocks.Contains(block) || (whole && (block + 1) * PromptBlocks.Size > shared))
                {
                    return block * PromptBlocks.Size;
                }
            }
            return shared;
        }

        /// <summary>
        /// Keep the first <paramref name="kept"/> positions and read <paramref name="ids"/> (at least one) behind them as a prompt,
        /// of which <paramref name="blocks"/>, ascending, are read in one pass each. What is cached is then the same to the last
        /// bit whatever was kept, if it came from <see cref="Kept"/>.
        /// </summary>
        /// <returns>The choice after the last.</returns>
        /// <exception cref="ContextLengthException">The context has no room.</exception>
        /// <exception cref="LogitsException">The model returned broken logits.</exception>
        internal List<Choice> Prefill(IReadOnlyList<int> ids, int kept, IEnumerable<int> blocks, Outputs outputs)
        {
            Rewind(kept);
            CheckRoom(ids.Count);
            return Read(PromptParts(ids, blocks.Where(block => block * PromptBlocks.Size >= kept).ToList()), 1, outputs);
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
            Rewind(Length);
            CheckRoom(ids.Count);
            return Read(Parts(ids, Length), rows, outputs);
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

        /// <summary>Ids behind so many positions, in passes whose rows have the bits of rows read singly.</summary>
        private List<List<int>> Parts(IReadOnlyList<int> ids, int past)
        {
            var longest = _singly ? 1 : _promptRows is int rows ? rows - 1 : LongestPass;
            var ends = _edges.Between(past, past + ids.Count).Select(edge => edge - past).Append(ids.Count);
            var parts = new List<List<int>>();
            var start = 0;
            foreach (var end in ends)
            {
                for (; start < end; start += parts[parts.Count - 1].Count)
                {
                    parts.Add(ids.Skip(start).Take(Math.Min(longest, end - start)).ToList());
                }
            }
            return parts;
        }

        /// <summary>Ids of a prompt in passes: the blocks whole, if they are of other bits, and the rest as any ids.</summary>
        private List<List<int>> PromptParts(IReadOnlyList<int> ids, List<int> blocks)
        {
            var past = Length;
            var at = past;
            var parts = new List<List<int>>();
            foreach (var start in _inBlocks ? blocks.Select(block => block * PromptBlocks.Size) : Enumerable.Empty<int>())
            {
                parts.AddRange(Parts(ids.Skip(at - past).Take(start - at).ToList(), at));
                parts.Add(ids.Skip(start - past).Take(PromptBlocks.Size).ToList());
                at = start + PromptBlocks.Size;
            }
            if (_inBlocks)
            {
                _blocks.AddRange(blocks);
            }
            parts.AddRange(Parts(ids.Skip(at - past).ToList(), at));
            return parts;
        }

        /// <summary>The choice after each of the last <paramref name="rows"/> ids of one pass.</summary>
        private List<Choice> Pass(List<int> ids, int rows, Outputs outputs)
        {
            BeforePass();
            var clock = Stopwatch.StartNew();
            var past = Length;
            int start;
            // Filled up, the last id before an edge would reach beyond it.
            if (ids.Count < _leastRows && _edges.EndsAt(past + 1))
            {
                // The id before is read again instead: same bits. It is forgotten first, so that what ends the pass leaves what
                // Length says.
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
            var io = _model.Record.Io;
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
                _model.Session.RunWithBinding(_runOptions, binding);
            }
            catch (OnnxRuntimeException error)
            {
                throw new NudgeException($"the {_model.Role} model failed: {error.Message.Split('\n')[0]}");
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
