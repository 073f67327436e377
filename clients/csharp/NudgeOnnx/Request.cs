using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using NudgeOnnx.Bundles;
using NudgeOnnx.Inference;

namespace NudgeOnnx
{
    /// <summary>The options of one answer, checked, with the bundle's defaults where the caller said nothing.</summary>
    internal sealed class Request
    {
        private const int MostAhead = 256;

        /// <exception cref="NudgeException">An option is out of range.</exception>
        internal Request(Manifest manifest, StreamOptions options)
        {
            var defaults = manifest.Defaults;
            var gamma = options.Gamma ?? defaults.Gamma;
            var temperature = options.GateTemperature ?? defaults.GateTemperature;
            Gate = new GateSetting(Gates.Named(options.Gate ?? defaults.Gate), gamma, temperature);
            Tail = options.Tail ?? defaults.Tail;
            DraftTokens = options.DraftTokens ?? defaults.DraftTokens;
            MaxNewTokens = options.MaxNewTokens;
            Stop = options.Stop;
            // An empty default is none; an empty text that was asked for is an empty message.
            SystemPrompt = options.SystemPrompt ?? (defaults.SystemPrompt.Length > 0 ? defaults.SystemPrompt : null);
            ReadAhead = options.ReadAhead;
            ControlTokens = options.ControlTokens;
            Require(Enum.IsDefined(typeof(ControlTokens), ControlTokens), $"unknown ControlTokens {ControlTokens}");
            var policy = options.Policy ?? defaults.Policy;
            SharesIds = policy == "token";
            Require(
                gamma >= 0 && gamma <= 1,
                $"gamma must be between 0 and 1, not {gamma.ToString(CultureInfo.InvariantCulture)}");
            Require(
                temperature >= 0.01 && temperature <= 100,
                $"GateTemperature must be between 0.01 and 100, not {temperature.ToString(CultureInfo.InvariantCulture)}");
            Require(
                Gate.Gate != Inference.Gate.Bet || temperature == 1,
                "gate 'bet' compares two models and has no GateTemperature; leave it at 1");
            Require(Tail is "draft" or "lazy", $"unknown tail '{Tail}'; use 'draft' or 'lazy'");
            Require(policy is "word" or "token", $"unknown policy '{policy}'; use 'word' or 'token'");
            foreach (var stop in Stop.Where(stop => stop != null))
            {
                Conversation.CheckUnicode(stop, "a stop text");
            }
            Require(DraftTokens >= 1 && MaxNewTokens >= 1, "DraftTokens and MaxNewTokens must be 1 or more");
            Require(Stop.All(stop => !string.IsNullOrEmpty(stop)), "a stop text must not be empty");
            Require(!(ReadAhead < 0 || ReadAhead > MostAhead), $"ReadAhead must be null or 0 to {MostAhead}");
            Require(
                !SharesIds || manifest.SharedVocabulary,
                "policy 'token' needs two models with one vocabulary, and those of this bundle differ");
        }

        internal GateSetting Gate { get; }

        /// <summary>Where an end of the nudging model counts: <c>draft</c> or <c>lazy</c>.</summary>
        internal string Tail { get; }

        internal int DraftTokens { get; }

        internal int MaxNewTokens { get; }

        internal IReadOnlyList<string> Stop { get; }

        internal string? SystemPrompt { get; }

        internal int? ReadAhead { get; }

        internal ControlTokens ControlTokens { get; }

        /// <summary>Whether ids pass over unchanged (policy <c>token</c>); else text does (<c>word</c>).</summary>
        internal bool SharesIds { get; }

        private static void Require(bool holds, string otherwise)
        {
            if (!holds)
            {
                throw new NudgeException(otherwise);
            }
        }
    }
}
