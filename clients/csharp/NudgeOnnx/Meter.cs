using System;
using System.Diagnostics;
using NudgeOnnx.Inference;

namespace NudgeOnnx
{
    /// <summary>Keeps an answer's <see cref="Timings"/>; the caller's own time between pieces is not counted.</summary>
    internal sealed class Meter
    {
        private readonly Memories _memories;
        private readonly Timings _timings;
        private readonly (long Fed, long Passes) _base;
        private readonly (long Fed, long Passes) _nudge;
        private readonly Stopwatch _clock = Stopwatch.StartNew();

        internal Meter(Memories memories, Timings timings)
        {
            _memories = memories;
            _timings = timings;
            _base = Counts(memories.Base);
            _nudge = Counts(memories.Nudge);
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
            Count("base", _memories.Base, _base);
            Count("nudge", _memories.Nudge, _nudge);
        }

        private static (long Fed, long Passes) Counts(RememberedRows memory) => (memory.Decoder.Fed, memory.Decoder.Passes);

        private void Count(string role, RememberedRows memory, (long Fed, long Passes) before)
        {
            _timings.Fed[role] = memory.Decoder.Fed - before.Fed;
            _timings.Passes[role] = memory.Decoder.Passes - before.Passes;
        }
    }
}
