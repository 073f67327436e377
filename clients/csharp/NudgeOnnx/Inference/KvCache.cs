using System;
using System.Collections.Generic;
using System.Linq;
using Microsoft.ML.OnnxRuntime;

namespace NudgeOnnx.Inference
{
    /// <summary>Keys and values of some positions, bound to a session's inputs and outputs for each pass.</summary>
    internal abstract class KvCache : IDisposable
    {
        private protected KvCache(ModelSession model)
        {
            Names = model.CacheNames().ToList();
            Tensors = new CacheTensors(model);
        }

        /// <summary>Positions in the cache.</summary>
        internal int Length { get; private protected set; }

        private protected List<(string Past, string Present)> Names { get; }

        private protected CacheTensors Tensors { get; }

        private protected List<OrtValue> Values { get; set; } = new List<OrtValue>();

        /// <summary>The cache that suits a graph.</summary>
        internal static KvCache Make(ModelSession model) => model.Record.Cache.Kind switch
        {
            "in_place" => new InPlaceCache(model),
            "growing" => new GrowingCache(model),
            var kind => throw new BundleException($"the cache kind {kind} is not supported by this library"),
        };

        /// <summary>Bind past and present for a pass that writes <paramref name="fresh"/> more positions.</summary>
        internal abstract void Bind(OrtIoBinding binding, int fresh);

        /// <summary>Take over what the pass wrote.</summary>
        internal abstract void Advance(OrtIoBinding binding, int fresh);

        /// <summary>Forget all positions from <paramref name="length"/> on.</summary>
        internal abstract void Rewind(int length);

        /// <summary>Hold so many positions of noise, as if they had been read.</summary>
        internal abstract void Pretend(int length);

        /// <inheritdoc/>
        public void Dispose()
        {
            Release();
            Tensors.Dispose();
        }

        private protected void Release()
        {
            Values.ForEach(value => value.Dispose());
            Values.Clear();
        }
    }

    /// <summary>
    /// One buffer a tensor, bound as past and as present: a step copies nothing and a rewind is a number. Capacity doubles,
    /// so that a short conversation never pays for the model's whole context.
    /// </summary>
    internal sealed class InPlaceCache : KvCache
    {
        private const int FirstCapacity = 256;

        // Room behind noise, so that it never has to grow.
        private const int ProbedPositions = 64;

        private readonly int _limit;
        private int _capacity;
        private OrtIoBinding? _bound;

        internal InPlaceCache(ModelSession model) : base(model)
        {
            _limit = model.Record.ContextLength;
        }

        internal override void Bind(OrtIoBinding binding, int fresh)
        {
            var needed = Length + fresh;
            if (needed > _capacity)
            {
                Grow(needed);
            }
            if (_bound == binding)
            {
                return; // a binding keeps buffers from pass to pass
            }
            _bound = binding;
            for (var i = 0; i < Names.Count; i++)
            {
                binding.BindInput(Names[i].Past, Values[i]);
                binding.BindOutput(Names[i].Present, Values[i]);
            }
        }

        internal override void Advance(OrtIoBinding binding, int fresh) => Length += fresh;

        internal override void Rewind(int length) => Length = Math.Min(Length, length);

        private void Grow(int needed)
        {
            var capacity = Math.Max(FirstCapacity, _capacity);
            while (capacity < needed)
            {
                capacity *= 2;
            }
            capacity = Math.Max(needed, Math.Min(capacity, _limit));
            // The old ones stay until all of the new ones are there: what goes wrong in between costs nothing.
            var grown = new List<OrtValue>();
            try
            {
                for (var i = 0; i < Names.Count; i++)
                {
                    grown.Add(Tensors.Resized(_capacity > 0 ? Values[i] : null, _capacity, capacity, Length));
                }
            }
            catch
            {
                grown.ForEach(value => value.Dispose());
                throw;
            }
            _bound = null;
            Release();
            Values = grown;
            _capacity = capacity;
        }

        internal override void Pretend(int length)
        {
            _bound = null;
            Release();
            Values = Names.Select(_ => Tensors.Noise(length + ProbedPositions)).ToList();
            _capacity = length + ProbedPositions;
            Length = length;
        }
    }

    /// <summary>
    /// For a graph whose present is past plus new: each pass hands its outputs on as the next inputs. They stay in host
    /// memory, whatever the provider.
    /// </summary>
    internal sealed class GrowingCache : KvCache
    {
        internal GrowingCache(ModelSession model) : base(model)
        {
            Values = Names.Select(_ => Tensors.OnHost(0)).ToList();
        }

        internal override void Bind(OrtIoBinding binding, int fresh)
        {
            for (var i = 0; i < Names.Count; i++)
            {
                binding.BindInput(Names[i].Past, Values[i]);
                binding.BindOutputToDevice(Names[i].Present, OrtMemoryInfo.DefaultInstance);
            }
        }

        internal override void Advance(OrtIoBinding binding, int fresh)
        {
            // A binding returns outputs in the order they were first bound, and a decoder binds its cache before its rows.
            var outputs = binding.GetOutputValues();
            Release(); // the pass has succeeded
            Values.AddRange(outputs.Take(Names.Count));
            foreach (var other in outputs.Skip(Names.Count))
            {
                other.Dispose();
            }
            Length += fresh;
        }

        internal override void Rewind(int length)
        {
            if (length >= Length)
            {
                return;
            }
            // These tensors have no spare room: what stays is copied.
            var kept = Values.Select(value => Tensors.ResizedOnHost(value, Length, length, length)).ToList();
            Release();
            Values = kept;
            Length = length;
        }

        internal override void Pretend(int length)
        {
            Release();
            Values = Names.Select(_ => Tensors.NoiseOnHost(length)).ToList();
            Length = length;
        }
    }
}
