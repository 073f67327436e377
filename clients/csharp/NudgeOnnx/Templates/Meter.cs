using System;
using System.Diagnostics;
using System.Globalization;

namespace NudgeOnnx.Templates
{
    /// <summary>
    /// How much a rendering may compute: a template can reach nothing, but could take all memory or run for years. Loops look
    /// at the clock, and what makes a text larger than what it reads is counted before it is made.
    /// </summary>
    internal sealed class Meter : IDisposable
    {
        /// <summary>The most that a number may widen a text by.</summary>
        internal const int Widest = 2000;

        // Real templates take milliseconds.
        private const double Seconds = 5;

        // A rendering makes at most so much text: a fixed part, and for each character of the conversation so many.
        private const long Characters = 10_000_000;
        private const long TimesTheConversation = 100;
        private const int Deepest = 64;
        private const int LookAtClock = 64;

        [ThreadStatic]
        private static Meter? _running;

        private readonly Meter? _before;
        private readonly long _all;
        private readonly Stopwatch _clock = Stopwatch.StartNew();
        private long _left;
        private int _steps;

        /// <summary>Begin a rendering on this thread; <paramref name="conversation"/> is how long its messages are.</summary>
        internal Meter(long conversation)
        {
            _left = _all = Characters + TimesTheConversation * conversation;
            _before = _running;
            _running = this;
        }

        /// <summary>Count a statement or a turn of a loop.</summary>
        /// <exception cref="TemplateException">The template has run for too long.</exception>
        internal static void Step()
        {
            if (_running is { } meter && ++meter._steps % LookAtClock == 0 && meter._clock.Elapsed.TotalSeconds > Seconds)
            {
                throw new TemplateException($"it computes for more than {Seconds} seconds");
            }
        }

        /// <summary>Refuse what would make so many characters, if that is more than what is left.</summary>
        internal static void Check(long characters)
        {
            if (_running is { } meter && characters > meter._left)
            {
                throw new TemplateException(
                    $"it makes more than {meter._all.ToString("N0", CultureInfo.InvariantCulture)} characters");
            }
        }

        /// <summary>Count a text or list that is about to be made.</summary>
        internal static void Spend(long characters)
        {
            Check(characters);
            if (_running is { } meter)
            {
                meter._left -= characters;
            }
        }

        /// <summary>Refuse lists in lists beyond a depth.</summary>
        internal static void CheckDepth(int depth)
        {
            if (depth > Deepest)
            {
                throw new TemplateException($"it nests lists more than {Deepest} deep");
            }
        }

        /// <inheritdoc/>
        public void Dispose() => _running = _before;
    }
}
