using System;
using System.Diagnostics;
using NudgeOnnx.Inference;

namespace NudgeOnnx
{
    /// <summary>Keeps an answer's <see cref="Timings"/>; the caller's own time between pieces is not counted.</summary>
    internal sealed class Meter
    {
        private readonly Readers _readers;
        private readonly Timings _timings;
        private readonly (long Fed, long Passes) _base;
        private readonly (long Fed, long Passes) _nudge;
        private readonly Stopwatch _clock = Stopwatch.StartNew();

        internal Meter(Readers readers, Timings timings)
        {
            _readers = readers;
            _timings = timings;
            _base = Counts(readers.Base);
            _nudge = Counts(readers.Nudge);
        }

        /// <summary>Say that both prompts are in the caches.</summary>
        internal void Prefilled() => _timings.Prefill = _clock.Elapsed.TotalSeconds;

        /// <summary>Do something that counts as decoding.</summary>
        internal bool Time(Func<bool> step)
        {
            _clock.Restart();
            try
            {
                return step();
            }
            finally
            {
                _timings.Decode += _clock.Elapsed.TotalSeconds;
                Count();
            }
        }

        /// <summary>Bring the numbers of tokens and passes up to date.</summary>
        internal void Count()
        {
            Count("base", _readers.Base, _base);
            Count("nudge", _readers.Nudge, _nudge);
        }

        private static (long Fed, long Passes) Counts(Reader reader) => (reader.Decoder.Fed, reader.Decoder.Passes);

        private void Count(string role, Reader reader, (long Fed, long Passes) before)
        {
            _timings.Fed[role] = reader.Decoder.Fed - before.Fed;
            _timings.Passes[role] = reader.Decoder.Passes - before.Passes;
        }
    }
}
