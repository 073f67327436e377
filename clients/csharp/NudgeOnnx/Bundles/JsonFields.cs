using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

namespace NudgeOnnx.Bundles
{
    /// <summary>The fields of one JSON object of the manifest; each getter refuses what is missing or ill-typed.</summary>
    internal readonly struct JsonFields
    {
        private readonly JsonElement _element;

        internal JsonFields(JsonElement element, string name)
        {
            if (element.ValueKind != JsonValueKind.Object)
            {
                throw IllFormed(name, "an object");
            }
            _element = element;
        }

        internal string Text(string name, string? otherwise = null) =>
            OptionalText(name, otherwise) ?? throw IllFormed(name, "a text");

        /// <summary>A text, <c>null</c> where the manifest says so, or <paramref name="otherwise"/> where it says nothing.</summary>
        internal string? OptionalText(string name, string? otherwise)
        {
            if (!_element.TryGetProperty(name, out var value))
            {
                return otherwise ?? throw Missing(name);
            }
            return value.ValueKind switch
            {
                JsonValueKind.Null => null,
                JsonValueKind.String => value.GetString(),
                _ => throw IllFormed(name, "a text"),
            };
        }

        /// <summary>A text or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal string? TextOrNull(string name) => _element.TryGetProperty(name, out _) ? OptionalText(name, "") : null;

        internal int Number(string name, int? otherwise = null)
        {
            if (!_element.TryGetProperty(name, out var value))
            {
                return otherwise ?? throw Missing(name);
            }
            return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number)
                ? number
                : throw IllFormed(name, "a number");
        }

        /// <summary>A number or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal int? NumberOrNull(string name) => IsNull(name) ? (int?)null : Number(name);

        internal long LongNumber(string name) =>
            Value(name).ValueKind == JsonValueKind.Number && Value(name).TryGetInt64(out var number)
                ? number
                : throw IllFormed(name, "a number");

        internal double Fraction(string name, double otherwise)
        {
            if (!_element.TryGetProperty(name, out var value))
            {
                return otherwise;
            }
            return value.ValueKind == JsonValueKind.Number ? value.GetDouble() : throw IllFormed(name, "a number");
        }

        internal bool Flag(string name)
        {
            if (!_element.TryGetProperty(name, out var value))
            {
                return false;
            }
            return value.ValueKind switch
            {
                JsonValueKind.True => true,
                JsonValueKind.False => false,
                _ => throw IllFormed(name, "true or false"),
            };
        }

        internal IReadOnlyList<int> Numbers(string name)
        {
            var items = Value(name);
            if (items.ValueKind != JsonValueKind.Array
                || items.EnumerateArray().Any(item => item.ValueKind != JsonValueKind.Number || !item.TryGetInt32(out _)))
            {
                throw IllFormed(name, "a list of numbers");
            }
            return items.EnumerateArray().Select(item => item.GetInt32()).ToArray();
        }

        /// <summary>Numbers or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal IReadOnlyList<int>? NumbersOrNull(string name) => IsNull(name) ? null : Numbers(name);

        /// <summary>A number or <c>null</c>; a missing field is <c>null</c>.</summary>
        internal long? LongNumberOrNull(string name) => IsNull(name) ? (long?)null : LongNumber(name);

        internal IReadOnlyList<string> Texts(string name)
        {
            if (!_element.TryGetProperty(name, out var items))
            {
                return Array.Empty<string>();
            }
            if (items.ValueKind != JsonValueKind.Array
                || items.EnumerateArray().Any(item => item.ValueKind != JsonValueKind.String))
            {
                throw IllFormed(name, "a list of texts");
            }
            return items.EnumerateArray().Select(item => item.GetString()!).ToArray();
        }

        internal JsonFields Object(string name) => new JsonFields(Value(name), name);

        /// <summary>An object, or an empty one where the field is missing.</summary>
        internal JsonFields ObjectOrEmpty(string name) =>
            _element.TryGetProperty(name, out var value) ? new JsonFields(value, name) : new JsonFields(Empty, name);

        /// <summary>Names and values; of a name that stands twice the last value holds.</summary>
        internal IEnumerable<(string Name, JsonElement Value)> Entries() =>
            _element.EnumerateObject().GroupBy(entry => entry.Name).Select(same => (same.Key, same.Last().Value));

        private static readonly JsonElement Empty = JsonDocument.Parse("{}").RootElement;

        private bool IsNull(string name) =>
            !_element.TryGetProperty(name, out var value) || value.ValueKind == JsonValueKind.Null;

        private JsonElement Value(string name) =>
            _element.TryGetProperty(name, out var value) ? value : throw Missing(name);

        private static BundleException Missing(string name) =>
            new BundleException($"{ManifestReader.FileName} lacks the field '{name}'; export the bundle again");

        private static BundleException IllFormed(string name, string wanted) => new BundleException(
            $"{ManifestReader.FileName} has an ill-formed field ('{name}' must be {wanted}); export the bundle again");
    }
}
