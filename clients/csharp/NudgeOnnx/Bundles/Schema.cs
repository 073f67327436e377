using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace NudgeOnnx.Bundles
{
    /// <summary>
    /// The part of JSON Schema that <c>bundle.schema.json</c> is written in: what Python checks a manifest by, this library
    /// checks it by. What <c>description</c> says is what an error says that a value must be.
    /// </summary>
    internal sealed class Schema
    {
        private const string Resource = "bundle.schema.json";
        private const int MostShown = 200;

        private static readonly Lazy<Schema> Manifests = new Lazy<Schema>(() => new Schema());

        private readonly JsonElement _root;

        private Schema()
        {
            using var stream = typeof(Schema).Assembly.GetManifestResourceStream(Resource)
                ?? throw new InvalidOperationException($"this build of the library lacks {Resource}");
            using var reader = new StreamReader(stream);
            _root = JsonDocument.Parse(reader.ReadToEnd()).RootElement;
        }

        /// <summary>Check a manifest whole.</summary>
        /// <exception cref="BundleException">A field is missing, ill-typed or out of range.</exception>
        internal static void Check(JsonElement manifest) => Manifests.Value.Check(manifest, Manifests.Value._root, "");

        private void Check(JsonElement value, JsonElement schema, string at)
        {
            schema = Resolved(schema);
            if (!Fits(value, schema))
            {
                throw new BundleException(
                    $"{ManifestReader.FileName} has an ill-formed field ({(at.Length > 0 ? at : "the whole")} must be "
                    + $"{Wanted(schema)}, not {Shown(value)}); export the bundle again");
            }
            if (value.ValueKind == JsonValueKind.Object)
            {
                CheckObject(value, schema, at);
            }
            else if (value.ValueKind == JsonValueKind.Array && schema.TryGetProperty("items", out var items))
            {
                var number = 0;
                foreach (var item in value.EnumerateArray())
                {
                    Check(item, items, Inside(at, (number++).ToString(CultureInfo.InvariantCulture)));
                }
            }
        }

        private void CheckObject(JsonElement value, JsonElement schema, string at)
        {
            foreach (var name in Texts(schema, "required").Where(name => !value.TryGetProperty(name, out _)))
            {
                throw new BundleException(
                    $"{ManifestReader.FileName} lacks the field '{Inside(at, name)}'; export the bundle again");
            }
            foreach (var entry in value.EnumerateObject())
            {
                if (schema.TryGetProperty("propertyNames", out var names) && !FitsText(entry.Name, Resolved(names)))
                {
                    throw new BundleException(
                        $"{ManifestReader.FileName} has an ill-formed field ({Inside(at, "(a name)")} must be "
                        + $"{Wanted(Resolved(names))}, not {Cut(JsonSerializer.Serialize(entry.Name))}); export the bundle again");
                }
                if (schema.TryGetProperty("properties", out var known) && known.TryGetProperty(entry.Name, out var own))
                {
                    Check(entry.Value, own, Inside(at, entry.Name));
                }
                else if (schema.TryGetProperty("additionalProperties", out var others))
                {
                    Check(entry.Value, others, Inside(at, entry.Name));
                }
            }
        }

        private JsonElement Resolved(JsonElement schema) => schema.TryGetProperty("$ref", out var reference)
            ? _root.GetProperty("$defs").GetProperty(reference.GetString()!.Substring("#/$defs/".Length))
            : schema;

        /// <summary>Whether a value is what a schema says of it, apart from what it says of its parts.</summary>
        private static bool Fits(JsonElement value, JsonElement schema)
        {
            var types = Types(schema);
            if (types.Count > 0 && !types.Any(type => Is(value, type)))
            {
                return false;
            }
            if (schema.TryGetProperty("const", out var one) && !(value.ValueKind == JsonValueKind.String && value.GetString() == one.GetString()))
            {
                return false;
            }
            if (schema.TryGetProperty("enum", out _)
                && !(value.ValueKind == JsonValueKind.String && Texts(schema, "enum").Contains(value.GetString()!)))
            {
                return false;
            }
            return value.ValueKind switch
            {
                JsonValueKind.Number => (!schema.TryGetProperty("minimum", out var least) || value.GetDouble() >= least.GetDouble())
                    && (!schema.TryGetProperty("maximum", out var most) || value.GetDouble() <= most.GetDouble()),
                JsonValueKind.String => FitsText(value.GetString()!, schema),
                JsonValueKind.Array when schema.TryGetProperty("uniqueItems", out var unique) && unique.GetBoolean() =>
                    value.EnumerateArray().Select(item => item.GetRawText()).Distinct().Count() == value.GetArrayLength(),
                _ => true,
            };
        }

        private static bool FitsText(string text, JsonElement schema) =>
            (!schema.TryGetProperty("minLength", out var least) || text.Length >= least.GetInt32())
            && (!schema.TryGetProperty("maxLength", out var most) || text.Length <= most.GetInt32())
            && (!schema.TryGetProperty("pattern", out var pattern)
                || Regex.IsMatch(text, pattern.GetString()!, RegexOptions.CultureInvariant));

        private static bool Is(JsonElement value, string type) => type switch
        {
            "null" => value.ValueKind == JsonValueKind.Null,
            "boolean" => value.ValueKind is JsonValueKind.True or JsonValueKind.False,
            "integer" => value.ValueKind == JsonValueKind.Number && Math.Floor(value.GetDouble()).Equals(value.GetDouble()),
            "number" => value.ValueKind == JsonValueKind.Number,
            "string" => value.ValueKind == JsonValueKind.String,
            "array" => value.ValueKind == JsonValueKind.Array,
            _ => value.ValueKind == JsonValueKind.Object,
        };

        private static string Wanted(JsonElement schema)
        {
            if (schema.TryGetProperty("description", out var description))
            {
                return description.GetString()!;
            }
            if (schema.TryGetProperty("enum", out _))
            {
                return $"one of {string.Join(", ", Texts(schema, "enum"))}";
            }
            var wanted = string.Join(" or ", Types(schema).Select(type => type switch
            {
                "boolean" => "true or false",
                "integer" => "a whole number",
                "number" => "a number",
                "string" => "a text",
                "array" => "a list",
                "object" => "an object",
                _ => type,
            }));
            if (schema.TryGetProperty("minimum", out var least))
            {
                wanted += schema.TryGetProperty("maximum", out var most) ? $" from {least} to {most}" : $" of at least {least}";
            }
            return wanted + (schema.TryGetProperty("uniqueItems", out _) ? ", each entry once" : "");
        }

        private static List<string> Types(JsonElement schema) =>
            !schema.TryGetProperty("type", out var type) ? new List<string>()
            : type.ValueKind == JsonValueKind.Array ? Texts(schema, "type")
            : new List<string> { type.GetString()! };

        private static List<string> Texts(JsonElement schema, string key) => schema.TryGetProperty(key, out var texts)
            ? texts.EnumerateArray().Select(text => text.GetString()!).ToList()
            : new List<string>();

        private static string Inside(string at, string name) => at.Length > 0 ? $"{at}.{Cut(name)}" : Cut(name);

        private static string Shown(JsonElement value) => Cut(value.GetRawText());

        /// <summary>One line, cut short.</summary>
        private static string Cut(string text)
        {
            var line = new string(text.Select(one => char.IsControl(one) ? ' ' : one).ToArray());
            return line.Length <= MostShown ? line : line.Substring(0, MostShown) + "...";
        }
    }
}
