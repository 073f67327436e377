using System;
using System.Collections.Generic;

namespace NudgeOnnx
{
    /// <summary>How an answer is made. What is <c>null</c> is the bundle's default.</summary>
    public sealed class StreamOptions
    {
        /// <summary>Nudge where the base model is less certain than this (0 to 1).</summary>
        public double? Gamma { get; init; }

        /// <summary>Where the base model may take over: <c>word</c>, or <c>token</c> if the models share a vocabulary.</summary>
        public string? Policy { get; init; }

        /// <summary>What certainty means: <c>top1</c>, <c>margin</c>, <c>entropy</c> or <c>bet</c>.</summary>
        public string? Gate { get; init; }

        /// <summary>What divides the logits that the gate reads, 0.01 to 100.</summary>
        public double? GateTemperature { get; init; }

        /// <summary>
        /// Whether an end of the nudging model counts anywhere in its <c>draft</c>, or only before the base model takes over
        /// (<c>lazy</c>).
        /// </summary>
        public string? Tail { get; init; }

        /// <summary>The most tokens of one draft.</summary>
        public int? DraftTokens { get; init; }

        /// <summary>The most tokens of the answer.</summary>
        public int MaxNewTokens { get; init; } = 256;

        /// <summary>The answer ends before the first of these texts.</summary>
        public IReadOnlyList<string> Stop { get; init; } = Array.Empty<string>();

        /// <summary>Instruction for both models; empty for none.</summary>
        public string? SystemPrompt { get; init; }

        /// <summary>What happens to messages that spell a special token of a model.</summary>
        public ControlTokens ControlTokens { get; init; } = ControlTokens.Allow;

        /// <summary>
        /// How many guessed tokens the base model reads ahead: 0 for none, <c>null</c> for what measured costs
        /// recommend. It changes the speed and never the answer.
        /// </summary>
        public int? ReadAhead { get; init; }
    }
}
