using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace NudgeOnnx
{
    /// <summary>Why an answer ended.</summary>
    public enum FinishReason
    {
        /// <summary>The nudging model ended it, or a stop text appeared.</summary>
        Stop,

        /// <summary>It has the most tokens that were allowed, or a model's context is full.</summary>
        Length,

        /// <summary>The nudging model kept offering the same.</summary>
        Repetition,

        /// <summary>The caller closed the stream, or has not read it to its end.</summary>
        Cancelled,

        /// <summary>A model failed; <see cref="Answer.Error"/> says why.</summary>
        Error,
    }

    /// <summary>Seconds of wall time, what the models were fed, and memory.</summary>
    public sealed class Timings
    {
        /// <summary>Opening the bundle and both sessions (once per model).</summary>
        public double Load { get; internal set; }

        /// <summary>From the first read to both prompts being in the caches.</summary>
        public double Prefill { get; internal set; }

        /// <summary>From there to the end of the answer, without the caller's own time.</summary>
        public double Decode { get; internal set; }

        /// <summary>Tokens that each model was fed, prompt included; what a cache already held is not fed again.</summary>
        public IDictionary<string, long> Fed { get; } = new Dictionary<string, long>();

        /// <summary>Forward passes of each model.</summary>
        public IDictionary<string, long> Passes { get; } = new Dictionary<string, long>();

        /// <summary>Most bytes that the process held up to now; null where the system does not say.</summary>
        public long? PeakMemory
        {
            get
            {
                using var process = Process.GetCurrentProcess();
                return process.PeakWorkingSet64 > 0 ? process.PeakWorkingSet64 : null;
            }
        }
    }

    /// <summary>An answer, as far as it was read.</summary>
    /// <param name="Text">The whole text.</param>
    /// <param name="Pieces">The pieces that it came in.</param>
    /// <param name="FinishReason">Why it ended.</param>
    /// <param name="Timings">How long it took.</param>
    /// <param name="Error">What went wrong, in one line, where the finish reason is <see cref="FinishReason.Error"/>.</param>
    public sealed record Answer(
        string Text, IReadOnlyList<Piece> Pieces, FinishReason FinishReason, Timings Timings, string? Error = null)
    {
        /// <summary>How many tokens of the answer a model wrote.</summary>
        public int TokensOf(Source source) =>
            Pieces.Where(piece => piece.Source == source).Sum(piece => piece.TokenIds.Count);

        /// <summary>How many tokens the answer has.</summary>
        public int Tokens => Pieces.Sum(piece => piece.TokenIds.Count);

        /// <summary>The nudging model's share of the tokens, 0 for an empty answer.</summary>
        public double NudgingRatio => Tokens == 0 ? 0 : (double)TokensOf(Source.Nudge) / Tokens;

        /// <summary>Tokens of the answer per second of <see cref="Timings.Decode"/>.</summary>
        public double TokensPerSecond => Timings.Decode > 0 ? Tokens / Timings.Decode : 0;

        /// <summary>One JSON object with the same fields as <c>nudge-onnx run --json</c> prints.</summary>
        public string ToJson()
        {
            using var buffer = new MemoryStream();
            using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            {
                Write(json);
            }
            return Encoding.UTF8.GetString(buffer.ToArray());
        }

        private void Write(Utf8JsonWriter json)
        {
            json.WriteStartObject();
            json.WriteString("text", Text);
            json.WriteString("finish_reason", FinishReason.ToString().ToLowerInvariant());
            json.WriteString("error", Error);
            json.WriteNumber("nudging_ratio", NudgingRatio);
            json.WriteStartObject("tokens");
            json.WriteNumber("base", TokensOf(Source.Base));
            json.WriteNumber("nudge", TokensOf(Source.Nudge));
            json.WriteEndObject();
            json.WriteNumber("tokens_per_second", TokensPerSecond);
            json.WriteStartObject("timings");
            json.WriteNumber("load", Timings.Load);
            json.WriteNumber("prefill", Timings.Prefill);
            json.WriteNumber("decode", Timings.Decode);
            WriteCounts(json, "fed", Timings.Fed);
            WriteCounts(json, "passes", Timings.Passes);
            if (Timings.PeakMemory is { } peak)
            {
                json.WriteNumber("peak_memory", peak);
            }
            else
            {
                json.WriteNull("peak_memory");
            }
            json.WriteEndObject();
            json.WriteStartArray("pieces");
            foreach (var piece in Pieces)
            {
                WritePiece(json, piece);
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }

        private static void WriteCounts(Utf8JsonWriter json, string name, IDictionary<string, long> counts)
        {
            json.WriteStartObject(name);
            foreach (var entry in counts)
            {
                json.WriteNumber(entry.Key, entry.Value);
            }
            json.WriteEndObject();
        }

        private static void WritePiece(Utf8JsonWriter json, Piece piece)
        {
            json.WriteStartObject();
            json.WriteString("text", piece.Text);
            json.WriteString("source", piece.Source.ToString().ToLowerInvariant());
            json.WriteStartArray("token_ids");
            foreach (var id in piece.TokenIds)
            {
                json.WriteNumberValue(id);
            }
            json.WriteEndArray();
            json.WriteStartArray("top1");
            foreach (var top1 in piece.Top1)
            {
                if (top1 is { } probability)
                {
                    json.WriteNumberValue(probability);
                }
                else
                {
                    json.WriteNullValue();
                }
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
    }
}
