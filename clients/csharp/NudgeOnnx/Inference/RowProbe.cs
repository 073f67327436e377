using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace NudgeOnnx.Inference
{
    /// <summary>
    /// Finds out which passes give a row the same bits, where the model runs: ONNX Runtime chooses kernels by the number of
    /// rows, and which it has depends on the processor. The passes are those of <c>docs/decoding.md</c>.
    /// </summary>
    internal static class RowProbe
    {
        // In a small model whole rows agree by chance. It is asked in so many rounds that they read so many weights in all.
        private const int MostRounds = 24;
        private const long WeightsOfRounds = 5_000_000;

        // Kernels take up to twelve rows at a time, and what is left over by fewer. Libraries for GPUs choose by tens, too.
        private static readonly int[] Sizes = { 1, 2, 3, 5 };
        private static readonly int[] MoreSizes = { 16, 37 };

        // Attention adds up positions in blocks of 128, of which the last may be more or less than half full.
        private static readonly (int Past, int[] Sizes)[] Places = { (126, Sizes), (190, new[] { 1, 2 }) };

        /// <summary>Ask a graph.</summary>
        /// <exception cref="NudgeException">It cannot run.</exception>
        internal static RowBits Find(ModelSession model)
        {
            var record = model.Record;
            if (record.Passes.Contains("window-attention") && record.Windows is null)
            {
                return RowBits.None; // exported when manifests did not say where such attention changes
            }
            // Products of floats inside attention never take a row by itself.
            var ways = record.Cache.Dtype == "int8" ? new[] { RowBits.All, RowBits.Pairs } : new[] { RowBits.Pairs };
            return ways.Where(way => Holds(model, way)).Append(RowBits.None).First();
        }

        private static bool Holds(ModelSession model, RowBits way)
        {
            var rounds = (int)Math.Min(MostRounds, WeightsOfRounds / (model.Record.Parameters ?? WeightsOfRounds));
            var places = Places.Concat(Enumerable.Repeat((Past: 0, Sizes), rounds)).ToList();
            if (model.Provider != "cpu")
            {
                places.Add((0, MoreSizes));
            }
            using var decoder = new Decoder(model, way);
            var fitting = places.Where(place => place.Past + place.Sizes.Sum() <= decoder.ContextLength).ToList();
            return fitting.Count > 0
                && fitting.Select((place, number) => Agrees(model, decoder, place.Past, place.Sizes, 1 + 257 * number))
                    .All(agrees => agrees);
        }

        /// <summary>Whether ids behind some positions say the same in passes of these sizes as in one pass of all.</summary>
        private static bool Agrees(ModelSession model, Decoder decoder, int past, int[] sizes, int first)
        {
            var ids = Enumerable.Range(0, sizes.Sum()).Select(at => (first + 7919 * at) % model.Record.VocabularySize).ToList();
            using var outputs = new RawOutputs(model);
            decoder.Pretend(past);
            decoder.Feed(ids, ids.Count, outputs);
            var together = outputs.TakeRows();
            decoder.Rewind(past);
            var at = 0;
            foreach (var size in sizes)
            {
                decoder.Feed(ids.GetRange(at, size), size, outputs);
                at += size;
            }
            return together.Zip(outputs.TakeRows(), (one, other) => one.AsSpan().SequenceEqual(other)).All(same => same);
        }

        /// <summary>All that a pass says of its rows, as bytes: logits, and the uncertainty head where there is one.</summary>
        private sealed class RawOutputs : Outputs
        {
            private readonly ModelSession _model;
            private readonly List<(string Name, OrtValue Value, Func<int, byte[]> Row)> _bound =
                new List<(string, OrtValue, Func<int, byte[]>)>();
            private List<byte[]> _rows = new List<byte[]>();

            internal RawOutputs(ModelSession model) : base(model)
            {
                _model = model;
            }

            internal override void Bind(int rows)
            {
                Release();
                var io = _model.Record.Io;
                Bind<float>(io.Logits, rows, _model.Record.VocabularySize);
                if (io is { Top1Id: { } id, Top1Probability: { } probability, LogSumExp: { } sum })
                {
                    Bind<long>(id, rows, 0);
                    Bind<float>(probability, rows, 0);
                    Bind<float>(sum, rows, 0);
                }
            }

            internal override Choice Choose(int row)
            {
                _rows.Add(_bound.SelectMany(one => one.Row(row)).ToArray());
                return default;
            }

            /// <summary>The rows that were chosen since the last call.</summary>
            internal List<byte[]> TakeRows()
            {
                var rows = _rows;
                _rows = new List<byte[]>();
                return rows;
            }

            /// <inheritdoc/>
            public override void Dispose()
            {
                base.Dispose();
                Release();
            }

            private void Bind<T>(string name, int rows, int columns) where T : unmanaged
            {
                var width = Math.Max(1, columns);
                var numbers = new T[rows * width];
                var shape = columns > 0 ? new long[] { 1, rows, columns } : new long[] { 1, rows };
                var value = OrtValue.CreateTensorValueFromMemory(numbers, shape);
                Binding.BindOutput(name, value);
                _bound.Add((name, value, row => MemoryMarshal.AsBytes(numbers.AsSpan(row * width, width)).ToArray()));
            }

            private void Release()
            {
                _bound.ForEach(one => one.Value.Dispose());
                _bound.Clear();
            }
        }
    }
}
