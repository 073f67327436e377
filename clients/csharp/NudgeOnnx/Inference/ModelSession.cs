using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using NudgeOnnx.Bundles;

namespace NudgeOnnx.Inference
{
    /// <summary>An open session, the record that describes its inputs, and the provider that runs it.</summary>
    internal sealed class ModelSession : IDisposable
    {
        private ModelSession(string role, ModelRecord record, InferenceSession session, string provider)
        {
            Role = role;
            Record = record;
            Session = session;
            Provider = provider;
        }

        internal string Role { get; }

        internal ModelRecord Record { get; }

        internal InferenceSession Session { get; }

        internal string Provider { get; }

        /// <summary>Which passes share bits where it runs.</summary>
        internal RowBits Rows { get; private set; } = RowBits.None;

        /// <summary>Open the graph of one model of a bundle.</summary>
        /// <exception cref="ProviderException">No wanted provider loads.</exception>
        /// <exception cref="BundleException">ONNX Runtime refuses the graph.</exception>
        internal static ModelSession Open(Bundle bundle, string role, LoadOptions options)
        {
            var record = bundle.Manifest.Models[role];
            using var settings = new SessionOptions();
            // Warnings about nodes kept on the CPU are noise to a user.
            settings.LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR;
            if (options.Threads is { } threads)
            {
                settings.IntraOpNumThreads = threads;
            }
            var provider = Providers.Append(settings, options);
            var session = Open(bundle.PathOf(record.Graph), record, settings);
            var missing = Inputs(record).FirstOrDefault(name => !session.InputMetadata.ContainsKey(name));
            if (missing != null)
            {
                session.Dispose();
                throw new BundleException(
                    $"{record.Graph} lacks the input {missing} that its manifest names; export it again");
            }
            var model = new ModelSession(role, record, session, provider);
            model.Rows = model.Remembered(new RowMemory(bundle, record, provider, options));
            return model;
        }

        /// <summary>Names of the cache's inputs and outputs, in pairs: key and value of each layer.</summary>
        internal IEnumerable<(string Past, string Present)> CacheNames() => Enumerable.Range(0, Record.Cache.Layers)
            .SelectMany(layer => new[]
            {
                (Name(Record.Io.PastKey, layer), Name(Record.Io.PresentKey, layer)),
                (Name(Record.Io.PastValue, layer), Name(Record.Io.PresentValue, layer)),
            });

        /// <inheritdoc/>
        public void Dispose() => Session.Dispose();

        private RowBits Remembered(RowMemory memory)
        {
            if (memory.Get() is { } known)
            {
                return known;
            }
            try
            {
                var found = RowProbe.Find(this);
                memory.Put(found);
                return found;
            }
            catch (NudgeException)
            {
                return RowBits.None; // the safe answer; whatever it was will be said when the model is used
            }
        }

        private static InferenceSession Open(string path, ModelRecord record, SessionOptions settings)
        {
            try
            {
                return new InferenceSession(path, settings);
            }
            catch (OnnxRuntimeException error)
            {
                throw new BundleException(
                    $"ONNX Runtime cannot open {record.Graph} ({error.Message.Split('\n')[0]}); "
                    + "check it with nudge-onnx inspect --check");
            }
        }

        private static IEnumerable<string> Inputs(ModelRecord record)
        {
            var io = record.Io;
            var layers = Enumerable.Range(0, record.Cache.Layers)
                .SelectMany(layer => new[] { Name(io.PastKey, layer), Name(io.PastValue, layer) });
            return new[] { io.InputIds, io.AttentionMask, io.PositionIds, io.LogitsRows }
                .Where(name => name != null).Select(name => name!).Concat(layers);
        }

        private static string Name(string pattern, int layer) =>
            pattern.Replace("{layer}", layer.ToString(CultureInfo.InvariantCulture));
    }
}
