using System;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using NudgeOnnx.Bundles;

namespace NudgeOnnx.Inference
{
    /// <summary>Makes and copies the tensors of one model's cache, in the memory where its provider works.</summary>
    internal sealed class CacheTensors : IDisposable
    {
        private readonly CacheRecord _shape;
        private readonly TensorElementType _type;
        private readonly int _itemSize;
        private readonly OrtMemoryInfo? _deviceMemory;
        private readonly OrtAllocator? _deviceAllocator;

        internal CacheTensors(ModelSession model)
        {
            _shape = model.Record.Cache;
            (_type, _itemSize) = _shape.Dtype switch
            {
                "float32" => (TensorElementType.Float, 4),
                "float16" => (TensorElementType.Float16, 2),
                "int8" => (TensorElementType.Int8, 1),
                _ => throw new BundleException($"the cache type {_shape.Dtype} is not supported by this library"),
            };
            if (Providers.IsCuda(model.Provider))
            {
                _deviceMemory = new OrtMemoryInfo("Cuda", OrtAllocatorType.DeviceAllocator, 0, OrtMemType.Default);
                _deviceAllocator = new OrtAllocator(model.Session, _deviceMemory);
            }
        }

        /// <summary>A tensor of zeros on the host, <c>[1, heads, positions, head size]</c>.</summary>
        internal OrtValue OnHost(int positions)
        {
            var tensor = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, _type, ShapeOf(positions));
            if (positions > 0)
            {
                tensor.GetTensorMutableRawData().Clear();
            }
            return tensor;
        }

        /// <summary>A tensor of noise: zeros would hide in which order they are added up.</summary>
        internal OrtValue Noise(int positions)
        {
            if (_deviceAllocator is null)
            {
                return NoiseOnHost(positions);
            }
            using var noise = NoiseOnHost(positions);
            return Copied(noise, OrtValue.CreateAllocatedTensorValue(_deviceAllocator, _type, ShapeOf(positions)));
        }

        /// <summary>The same in host memory.</summary>
        internal OrtValue NoiseOnHost(int positions)
        {
            var tensor = OnHost(positions);
            if (positions == 0)
            {
                return tensor;
            }
            var random = new Random(0);
            var bytes = tensor.GetTensorMutableRawData();
            for (var at = 0; at < bytes.Length; at += _itemSize)
            {
                var item = bytes.Slice(at, _itemSize);
                switch (_itemSize)
                {
                    case 1:
                        item[0] = (byte)(sbyte)random.Next(-100, 101);
                        break;
                    case 2: // halves of either sign, from an eighth to nearly two
                        BitConverter.TryWriteBytes(item, (ushort)((random.Next(2) << 15) | random.Next(12 << 10, 16 << 10)));
                        break;
                    default:
                        BitConverter.TryWriteBytes(item, (float)(4 * random.NextDouble() - 2));
                        break;
                }
            }
            return tensor;
        }

        /// <summary>A tensor for <paramref name="to"/> positions that starts with the first <paramref name="kept"/> of another.</summary>
        internal OrtValue Resized(OrtValue? tensor, int from, int to, int kept)
        {
            if (_deviceAllocator is null)
            {
                return ResizedOnHost(tensor, from, to, kept);
            }
            using var old = tensor is null ? null : Copied(tensor, OnHost(from));
            using var fresh = ResizedOnHost(old, from, to, kept);
            return Copied(fresh, OrtValue.CreateAllocatedTensorValue(_deviceAllocator, _type, ShapeOf(to)));
        }

        /// <summary>Like <see cref="Resized"/>, for tensors in host memory.</summary>
        internal OrtValue ResizedOnHost(OrtValue? tensor, int from, int to, int kept)
        {
            var fresh = OnHost(to);
            if (tensor is null || kept == 0)
            {
                return fresh;
            }
            var old = tensor.GetTensorMutableRawData();
            var now = fresh.GetTensorMutableRawData();
            var row = _shape.HeadSize * _itemSize;
            for (var head = 0; head < _shape.KvHeads; head++)
            {
                old.Slice(head * from * row, kept * row).CopyTo(now.Slice(head * to * row));
            }
            return fresh;
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            _deviceAllocator?.Dispose();
            _deviceMemory?.Dispose();
        }

        private static OrtValue Copied(OrtValue from, OrtValue to)
        {
            OrtEnv.Instance().CopyTensors(new[] { from }, new[] { to }, null);
            return to;
        }

        private long[] ShapeOf(int positions) => new long[] { 1, _shape.KvHeads, positions, _shape.HeadSize };
    }
}
