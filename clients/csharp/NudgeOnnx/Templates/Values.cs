using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace NudgeOnnx.Templates
{
    /// <summary>
    /// What the values of a template do. They are <c>null</c> (none), <see cref="Undefined"/>, <c>bool</c>, <c>long</c>,
    /// <c>double</c>, <c>string</c>, lists (<c>List&lt;object?&gt;</c>) and maps (<c>Dictionary&lt;string, object?&gt;</c>).
    /// </summary>
    internal static class Values
    {
        /// <summary>Whether a value counts as true: not none, undefined, zero or empty.</summary>
        internal static bool IsTrue(object? value) => value switch
        {
            null or Undefined => false,
            bool flag => flag,
            long number => number != 0,
            double number => number != 0,
            string text => text.Length > 0,
            List<object?> list => list.Count > 0,
            Dictionary<string, object?> map => map.Count > 0,
            _ => true,
        };

        /// <summary>What a value prints as.</summary>
        internal static string Text(object? value) => value switch
        {
            null => "None",
            Undefined => "",
            bool flag => flag ? "True" : "False",
            long number => number.ToString(CultureInfo.InvariantCulture),
            double number => number == Math.Floor(number) && Math.Abs(number) < 1e16
                ? number.ToString("F1", CultureInfo.InvariantCulture)
                : number.ToString("R", CultureInfo.InvariantCulture),
            string text => text,
            _ => throw new TemplateException($"the prompt template prints {Kind(value)}, which is not supported"),
        };

        /// <summary>Whether two values are equal, as Python has it: numbers and truth values by their number.</summary>
        internal static bool Same(object? left, object? right)
        {
            if (Number(left) is { } one && Number(right) is { } other)
            {
                return one.Equals(other);
            }
            return (left, right) switch
            {
                (null, null) or (Undefined, Undefined) => true,
                (string a, string b) => string.Equals(a, b, StringComparison.Ordinal),
                (List<object?> a, List<object?> b) => a.Count == b.Count && a.Zip(b, Same).All(same => same),
                (Dictionary<string, object?> a, Dictionary<string, object?> b) =>
                    a.Count == b.Count && a.All(entry => b.TryGetValue(entry.Key, out var value) && Same(entry.Value, value)),
                _ => ReferenceEquals(left, right),
            };
        }

        /// <summary>Whether <paramref name="left"/> comes before (-1), with (0) or after (1) <paramref name="right"/>.</summary>
        internal static int Order(object? left, object? right)
        {
            if (Number(left) is { } one && Number(right) is { } other)
            {
                return one.CompareTo(other);
            }
            return left is string a && right is string b
                ? Math.Sign(string.CompareOrdinal(a, b))
                : throw new TemplateException($"the prompt template compares {Kind(left)} with {Kind(right)}");
        }

        /// <summary>Whether <paramref name="container"/> has <paramref name="item"/>: a part of a text, an item, or a key.</summary>
        internal static bool Contains(object? container, object? item) => container switch
        {
            string text when item is string part => text.Contains(part, StringComparison.Ordinal),
            List<object?> list => list.Any(entry => Same(entry, item)),
            Dictionary<string, object?> map => item is string key && map.ContainsKey(key),
            Undefined => false,
            _ => throw new TemplateException($"the prompt template looks for something in {Kind(container)}"),
        };

        /// <summary>A number or truth value as a number, else <c>null</c>.</summary>
        internal static double? Number(object? value) => value switch
        {
            bool flag => flag ? 1 : 0,
            long number => number,
            double number => number,
            _ => null,
        };

        /// <summary>The items of a list, the keys of a map, the characters of a text; nothing for what is undefined.</summary>
        internal static List<object?> Items(object? value) => value switch
        {
            List<object?> list => list,
            Dictionary<string, object?> map => map.Keys.Cast<object?>().ToList(),
            string text => Characters(text),
            Undefined => new List<object?>(),
            _ => throw new TemplateException($"the prompt template goes through {Kind(value)}, which has no items"),
        };

        internal static List<object?> Characters(string text)
        {
            var characters = new List<object?>();
            for (var at = 0; at < text.Length;)
            {
                var length = NudgeOnnx.Text.CodePoints.LengthAt(text, at);
                characters.Add(text.Substring(at, length));
                at += length;
            }
            return characters;
        }

        /// <summary>What kind of value this is, for messages.</summary>
        internal static string Kind(object? value) => value switch
        {
            null => "none",
            Undefined undefined => $"'{undefined.Name}', which is undefined",
            bool => "a truth value",
            long or double => "a number",
            string => "a text",
            List<object?> => "a list",
            Dictionary<string, object?> => "a map",
            _ => "a function",
        };
    }

    /// <summary>The value of a name or attribute that nothing was assigned to.</summary>
    internal sealed class Undefined
    {
        internal Undefined(string name)
        {
            Name = name;
        }

        internal string Name { get; }

        internal T Fail<T>() => throw new TemplateException($"'{Name}' is undefined in the prompt template");
    }
}
