using System;
using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx.Templates
{
    /// <summary>The functions and methods of templates; any other is refused when it is reached.</summary>
    internal static class Functions
    {
        private const int LongestRange = 100000;

        internal static object? Call(string name, List<object?> arguments, Dictionary<string, object?> named)
        {
            switch (name)
            {
                case "raise_exception":
                    throw new TemplateException(arguments.Count > 0 ? Values.Text(arguments[0]) : "no reason given");
                case "strftime_now" when arguments.Count == 1:
                    return TimeText.Format(DateTime.UtcNow, Values.Text(arguments[0]));
                case "namespace" or "dict" when arguments.Count == 0:
                    return new Dictionary<string, object?>(named);
                case "range" when arguments.Count > 0 && arguments.All(argument => argument is long):
                    return Range(arguments.Cast<long>().ToList());
                default:
                    throw new TemplateException(
                        $"the prompt template calls the function '{name}', which is not supported");
            }
        }

        internal static object? CallMethod(object? owner, string name, List<object?> arguments)
        {
            switch (owner, name)
            {
                case (Undefined undefined, _):
                    return undefined.Fail<object?>();
                case (Dictionary<string, object?> map, "items"):
                    return map.Select(entry => (object?)new List<object?> { entry.Key, entry.Value }).ToList();
                case (Dictionary<string, object?> map, "keys"):
                    return map.Keys.Cast<object?>().ToList();
                case (Dictionary<string, object?> map, "values"):
                    return map.Values.ToList();
                case (Dictionary<string, object?> map, "get") when arguments.Count > 0:
                    var fallback = arguments.Count > 1 ? arguments[1] : null;
                    return map.TryGetValue(Values.Text(arguments[0]), out var value) ? value : fallback;
                case (string text, _):
                    return TextMethod(text, name, arguments.Select(Values.Text).ToList());
                default:
                    throw Unsupported(owner, name);
            }
        }

        /// <summary>A text without the given characters (without blanks, where none are given) at its ends.</summary>
        internal static string Strip(string text, string? characters, bool start, bool end)
        {
            bool Drops(char character) =>
                characters is null ? NudgeOnnx.Text.Blanks.IsBlank(character) : characters.IndexOf(character) >= 0;
            var (from, to) = (0, text.Length);
            while (start && from < to && Drops(text[from]))
            {
                from++;
            }
            while (end && to > from && Drops(text[to - 1]))
            {
                to--;
            }
            return text.Substring(from, to - from);
        }

        /// <summary>Like Python: an empty text to replace stands between all characters.</summary>
        internal static string Replace(string text, string what, string by)
        {
            var count = 1 + (what.Length > 0 ? text.Length / what.Length : text.Length);
            // Only what may grow is counted as if all of it did.
            Meter.Spend(text.Length + (by.Length > what.Length ? (long)count * by.Length : 0));
            return what.Length > 0
                ? text.Replace(what, by)
                : by + string.Concat(Values.Characters(text).Select(character => character + by));
        }

        private static object TextMethod(string text, string name, List<string> arguments)
        {
            var first = arguments.Count > 0 ? arguments[0] : null;
            switch (name)
            {
                case "strip":
                    return Strip(text, first, true, true);
                case "lstrip":
                    return Strip(text, first, true, false);
                case "rstrip":
                    return Strip(text, first, false, true);
                case "upper":
                    return text.ToUpperInvariant();
                case "lower":
                    return text.ToLowerInvariant();
                case "startswith" when first != null:
                    return text.StartsWith(first, StringComparison.Ordinal);
                case "endswith" when first != null:
                    return text.EndsWith(first, StringComparison.Ordinal);
                case "replace" when arguments.Count == 2:
                    return Replace(text, arguments[0], arguments[1]);
                case "split" when arguments.Count == 1 && first!.Length > 0:
                    return text.Split(new[] { first }, StringSplitOptions.None).Cast<object?>().ToList();
                case "split" when arguments.Count == 0:
                    var words = new string(text.Select(c => NudgeOnnx.Text.Blanks.IsBlank(c) ? ' ' : c).ToArray());
                    return words.Split(new[] { ' ' }, StringSplitOptions.RemoveEmptyEntries).Cast<object?>().ToList();
                default:
                    throw Unsupported(text, name);
            }
        }

        private static List<object?> Range(List<long> bounds)
        {
            var (start, stop) = bounds.Count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1]);
            var step = bounds.Count > 2 ? bounds[2] : 1;
            var numbers = new List<object?>();
            for (var number = start; step > 0 ? number < stop : number > stop; number += step)
            {
                if (step == 0 || numbers.Count == LongestRange)
                {
                    throw new TemplateException("the prompt template makes a range that is too long");
                }
                numbers.Add(number);
            }
            return numbers;
        }

        private static TemplateException Unsupported(object? owner, string name) => new TemplateException(
            $"the prompt template calls the method '{name}' of {Values.Kind(owner)}, which is not supported");
    }
}
