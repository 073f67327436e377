using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

namespace NudgeOnnx.Bundles
{
    /// <summary>The fields of one JSON object of a manifest that its schema was found to fit.</summary>
    internal readonly struct JsonFields
    {
        private readonly JsonElement _element;

        internal JsonFields(JsonElement element)
        {
            _element = element;
        }

        internal string Text(string name) => _element.GetProperty(name).GetString()!;

        /// <summary>A text or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal string? TextOrNull(string name) => Given(name)?.GetString();

        internal int Number(string name) => Whole(_element.GetProperty(name));

        /// <summary>A number or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal int? NumberOrNull(string name) => Given(name) is { } value ? Whole(value) : (int?)null;

        internal long LongNumber(string name) => (long)_element.GetProperty(name).GetDouble();

        /// <summary>A number or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal long? LongNumberOrNull(string name) => Given(name) is { } value ? (long)value.GetDouble() : (long?)null;

        internal double Fraction(string name) => _element.GetProperty(name).GetDouble();

        /// <summary>A number; a missing field is <paramref name="otherwise"/>.</summary>
        internal double FractionOr(string name, double otherwise) => Given(name)?.GetDouble() ?? otherwise;

        /// <summary>True or false; a missing field is false.</summary>
        internal bool Flag(string name) => Given(name)?.GetBoolean() ?? false;

        internal IReadOnlyList<int> Numbers(string name) => Items(name).Select(Whole).ToArray();

        /// <summary>Numbers or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal IReadOnlyList<int>? NumbersOrNull(string name) => Given(name) is null ? null : Numbers(name);

        internal IReadOnlyList<string> Texts(string name) => Items(name).Select(item => item.GetString()!).ToArray();

        internal JsonFields Object(string name) => new JsonFields(_element.GetProperty(name));

        /// <summary>Names and values; of a name that stands twice the last value holds.</summary>
        internal IEnumerable<(string Name, JsonElement Value)> Entries() =>
            _element.EnumerateObject().GroupBy(entry => entry.Name).Select(same => (same.Key, same.Last().Value));

        private IEnumerable<JsonElement> Items(string name) => _element.GetProperty(name).EnumerateArray();

        /// <summary>A value that is there and not <c>null</c>.</summary>
        private JsonElement? Given(string name) =>
            _element.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : (JsonElement?)null;

        // A whole number may be written as a fraction, 2.0.
        private static int Whole(JsonElement value) => (int)value.GetDouble();
    }
}
