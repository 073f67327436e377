using System;
using Microsoft.ML.OnnxRuntime;

namespace NudgeOnnx.Inference
{
    /// <summary>What a model wants to write at a position, and whether the gate finds it certain.</summary>
    internal readonly struct Choice
    {
        internal Choice(int token, double top1, bool certain)
        {
            Token = token;
            Top1 = top1;
            Certain = certain;
        }

        internal int Token { get; }

        internal double Top1 { get; }

        internal bool Certain { get; }
    }

    /// <summary>What the passes of one answer give back for their rows: buffers, bound to a binding of their own.</summary>
    internal abstract class Outputs : IDisposable
    {
        private protected Outputs(ModelSession model)
        {
            Binding = model.Session.CreateIoBinding();
        }

        internal OrtIoBinding Binding { get; }

        /// <summary>What a gate asks for: a graph's uncertainty head, where there is one and it tells enough, or logits.</summary>
        internal static Outputs Make(ModelSession model, GateSetting gate) =>
            gate is { Gate: Gate.Top1 or Gate.Bet, Temperature: 1 }
                && model.Record.Io is { Top1Id: { } id, Top1Probability: { } probability }
                ? new HeadOutputs(model, id, probability, gate.Gamma)
                : new LogitsOutputs(model, gate);

        /// <summary>Bind room for so many rows.</summary>
        internal abstract void Bind(int rows);

        /// <summary>The choice after one row of the pass that ran.</summary>
        /// <exception cref="LogitsException">The model returned broken logits.</exception>
        internal abstract Choice Choose(int row);

        /// <inheritdoc/>
        public virtual void Dispose() => Binding.Dispose();
    }

    /// <summary>All logits, which any gate can read, in one buffer that is kept from pass to pass.</summary>
    internal sealed class LogitsOutputs : Outputs
    {
        // Rows that a draft can have; more than these are a prefill.
        private const int MostKeptRows = 32;

        private readonly ModelSession _model;
        private readonly GateSetting _gate;
        private float[] _logits = Array.Empty<float>();
        private float[] _scaled = Array.Empty<float>();
        private OrtValue? _tensor;

        internal LogitsOutputs(ModelSession model, GateSetting gate) : base(model)
        {
            _model = model;
            _gate = gate;
        }

        private int Vocabulary => _model.Record.VocabularySize;

        internal override void Bind(int rows)
        {
            var size = rows * Vocabulary;
            if (_logits.Length < size || _logits.Length > MostKeptRows * Vocabulary)
            {
                _logits = new float[size];
            }
            _tensor?.Dispose();
            _tensor = OrtValue.CreateTensorValueFromMemory(
                OrtMemoryInfo.DefaultInstance, _logits.AsMemory(0, size), new long[] { 1, rows, Vocabulary });
            Binding.BindOutput(_model.Record.Io.Logits, _tensor);
        }

        internal override Choice Choose(int row)
        {
            var logits = _logits.AsSpan(row * Vocabulary, Vocabulary);
            var softmax = new Softmax(logits, _model.Role);
            var read = _gate.Temperature == 1 ? softmax : new Softmax(Scaled(logits), _model.Role);
            return new Choice(softmax.ArgMax, softmax.Top1, Gates.IsCertain(_gate.Gate, read, _gate.Gamma));
        }

        private ReadOnlySpan<float> Scaled(ReadOnlySpan<float> logits)
        {
            Array.Resize(ref _scaled, logits.Length);
            for (var i = 0; i < logits.Length; i++)
            {
                _scaled[i] = logits[i] / (float)_gate.Temperature;
            }
            return _scaled;
        }

        /// <inheritdoc/>
        public override void Dispose()
        {
            base.Dispose();
            _tensor?.Dispose();
        }
    }

    /// <summary>
    /// The arg-max and its probability, for the gate of the paper: a few bytes a row, and the logits stay where they were
    /// computed.
    /// </summary>
    internal sealed class HeadOutputs : Outputs
    {
        private readonly string _model;
        private readonly string _idName;
        private readonly string _probabilityName;
        private readonly double _gamma;
        private long[] _ids = Array.Empty<long>();
        private float[] _probabilities = Array.Empty<float>();
        private OrtValue? _idTensor;
        private OrtValue? _probabilityTensor;

        internal HeadOutputs(ModelSession model, string idName, string probabilityName, double gamma) : base(model)
        {
            _model = model.Role;
            _idName = idName;
            _probabilityName = probabilityName;
            _gamma = gamma;
        }

        internal override void Bind(int rows)
        {
            if (_ids.Length == rows)
            {
                return; // a binding keeps buffers from pass to pass
            }
            Release();
            _ids = new long[rows];
            _probabilities = new float[rows];
            var shape = new long[] { 1, rows };
            _idTensor = OrtValue.CreateTensorValueFromMemory(_ids, shape);
            _probabilityTensor = OrtValue.CreateTensorValueFromMemory(_probabilities, shape);
            Binding.BindOutput(_idName, _idTensor);
            Binding.BindOutput(_probabilityName, _probabilityTensor);
        }

        internal override Choice Choose(int row)
        {
            var top1 = _probabilities[row];
            return top1 > 0 && top1 <= 1
                ? new Choice((int)_ids[row], top1, top1 >= _gamma)
                : throw new LogitsException(_model, top1);
        }

        /// <inheritdoc/>
        public override void Dispose()
        {
            base.Dispose();
            Release();
        }

        private void Release()
        {
            _idTensor?.Dispose();
            _probabilityTensor?.Dispose();
        }
    }
}
