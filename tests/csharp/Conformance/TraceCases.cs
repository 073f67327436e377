using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.Json;

namespace NudgeOnnx.Conformance
{
    /// <summary>Answers of one bundle: pieces, ids and sources exactly, probabilities closely.</summary>
    internal static class TraceCases
    {
        private const double Tolerance = 1e-4;

        internal static void Check(string bundle, IEnumerable<JsonElement> traces, int? readAhead, Report report)
        {
            using var model = NudgedModel.Load(bundle);
            foreach (var trace in traces)
            {
                var options = Options(trace.GetProperty("options"), readAhead);
                var messages = trace.GetProperty("messages").EnumerateArray().Select(Message).ToList();
                var answer = model.Generate(messages, options);
                var name = $"{bundle} {trace.GetProperty("options")} {JsonSerializer.Serialize(messages.Last().Content)}";
                report.Compare($"{name}: text", trace.GetProperty("text").GetString()!, answer.Text);
                report.Compare(
                    $"{name}: finish reason",
                    trace.GetProperty("finish_reason").GetString()!,
                    answer.FinishReason.ToString().ToLowerInvariant());
                var pieces = trace.GetProperty("pieces").EnumerateArray().ToList();
                report.Compare(
                    $"{name}: pieces",
                    string.Join("; ", pieces.Select(Shown)),
                    string.Join("; ", answer.Pieces.Select(Shown)));
                CompareTop1(name, pieces, answer.Pieces, report);
            }
        }

        internal static Message Message(JsonElement message) =>
            new Message(message.GetProperty("role").GetString()!, message.GetProperty("content").GetString()!);

        private static StreamOptions Options(JsonElement options, int? readAhead)
        {
            string? Text(string name) => options.TryGetProperty(name, out var value) ? value.GetString() : null;
            int? Number(string name) => options.TryGetProperty(name, out var value) ? value.GetInt32() : null;
            return new StreamOptions
            {
                Gamma = options.TryGetProperty("gamma", out var gamma) ? gamma.GetDouble() : null,
                Policy = Text("policy"),
                Gate = Text("gate"),
                GateTemperature = options.TryGetProperty("gate_temperature", out var t) ? t.GetDouble() : null,
                Tail = Text("tail"),
                DraftTokens = Number("draft_tokens"),
                MaxNewTokens = Number("max_new_tokens") ?? 256,
                Stop = options.TryGetProperty("stop", out var stop)
                    ? stop.EnumerateArray().Select(text => text.GetString()!).ToArray()
                    : Array.Empty<string>(),
                SystemPrompt = Text("system_prompt"),
                ReadAhead = readAhead,
            };
        }

        private static string Shown(JsonElement piece) =>
            $"{piece.GetProperty("source")} {JsonSerializer.Serialize(piece.GetProperty("text").GetString())} "
            + TokenizerCases.Ids(piece.GetProperty("token_ids"));

        private static string Shown(Piece piece) =>
            $"{piece.Source.ToString().ToLowerInvariant()} {JsonSerializer.Serialize(piece.Text)} "
            + TokenizerCases.Joined(piece.TokenIds);

        private static void CompareTop1(
            string name, List<JsonElement> wanted, IReadOnlyList<Piece> found, Report report)
        {
            var numbers = wanted
                .SelectMany(piece => piece.GetProperty("top1").EnumerateArray())
                .Select(top1 => top1.ValueKind == JsonValueKind.Null ? (double?)null : top1.GetDouble())
                .ToList();
            var ours = found.SelectMany(piece => piece.Top1).ToList();
            var same = numbers.Count == ours.Count && numbers.Zip(ours, Same).All(close => close);
            if (same)
            {
                report.Agree();
            }
            else
            {
                report.Differ($"{name}: top-1", Joined(numbers), Joined(ours));
            }
        }

        private static bool Same(double? one, double? other) => one is { } a && other is { } b
            ? Math.Abs(a - b) <= Tolerance
            : one is null && other is null;

        private static string Joined(IEnumerable<double?> numbers) =>
            string.Join(",", numbers.Select(number => number?.ToString("F5", CultureInfo.InvariantCulture) ?? "null"));
    }
}
