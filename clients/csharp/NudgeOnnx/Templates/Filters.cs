using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace NudgeOnnx.Templates
{
    /// <summary>The filters of templates; any other is refused when it is reached.</summary>
    internal static class Filters
    {
        internal static object? Apply(
            string name, object? value, List<object?> arguments, Dictionary<string, object?> named)
        {
            switch (name)
            {
                case "trim":
                    var characters = arguments.Count > 0 ? Values.Text(arguments[0]) : null;
                    return Functions.Strip(Values.Text(value), characters, true, true);
                case "length" or "count":
                    return (long)Values.Items(value).Count;
                case "tojson":
                    return JsonText.Write(value, arguments, named);
                case "upper":
                    return Values.Text(value).ToUpperInvariant();
                case "lower":
                    return Values.Text(value).ToLowerInvariant();
                case "capitalize":
                    var text = Values.Text(value);
                    return text.Length == 0 ? text : text.Substring(0, 1).ToUpperInvariant() + text.Substring(1).ToLowerInvariant();
                case "string":
                    return Values.Text(value);
                case "int":
                    return value is string digits
                        ? long.TryParse(digits.Trim(), NumberStyles.Integer, CultureInfo.InvariantCulture, out var whole) ? whole : 0
                        : (long)(Values.Number(value) ?? 0);
                case "safe":
                    return value;
                case "list":
                    return Values.Items(value).ToList();
                case "first":
                    return Values.Items(value).DefaultIfEmpty(new Undefined("first")).First();
                case "last":
                    return Values.Items(value).DefaultIfEmpty(new Undefined("last")).Last();
                case "reverse":
                    var reversed = Values.Items(value).AsEnumerable().Reverse().ToList();
                    return value is string ? string.Concat(reversed) : (object)reversed;
                case "join":
                    var between = arguments.Count > 0 ? Values.Text(arguments[0]) : "";
                    var joined = Values.Items(value).Select(Values.Text).ToList();
                    Meter.Spend(joined.Sum(one => (long)one.Length + between.Length));
                    return string.Join(between, joined);
                case "replace" when arguments.Count == 2:
                    return Functions.Replace(Values.Text(value), Values.Text(arguments[0]), Values.Text(arguments[1]));
                case "items":
                    return Functions.CallMethod(value, "items", arguments);
                case "default" or "d":
                    var alsoFalse = arguments.Count > 1 && Values.IsTrue(arguments[1]);
                    var missing = value is Undefined || (alsoFalse && !Values.IsTrue(value));
                    return missing ? arguments.Count > 0 ? arguments[0] : "" : value;
                default:
                    throw new TemplateException($"the prompt template uses the filter '{name}', which is not supported");
            }
        }
    }

    /// <summary>The tests of templates (<c>value is name</c>); any other is refused when it is reached.</summary>
    internal static class Tests
    {
        internal static bool Holds(string name, object? value, List<object?> arguments) => name switch
        {
            "defined" => value is not Undefined,
            "undefined" => value is Undefined,
            "none" => value is null,
            "string" => value is string,
            "number" => value is long or double or bool,
            "integer" => value is long,
            "float" => value is double,
            "boolean" => value is bool,
            "true" => value is true,
            "false" => value is false,
            "mapping" => value is Dictionary<string, object?>,
            "sequence" or "iterable" => value is string or List<object?> or Dictionary<string, object?> or Undefined,
            "odd" => Values.Number(value) is { } number && Math.Abs(number % 2) == 1,
            "even" => Values.Number(value) is { } number && number % 2 == 0,
            "eq" or "equalto" or "==" when arguments.Count == 1 => Values.Same(value, arguments[0]),
            "ne" or "!=" when arguments.Count == 1 => !Values.Same(value, arguments[0]),
            "in" when arguments.Count == 1 => Values.Contains(arguments[0], value),
            "divisibleby" when arguments.Count == 1 =>
                Values.Number(value) is { } number && Values.Number(arguments[0]) is { } by && number % by == 0,
            _ => throw new TemplateException($"the prompt template uses the test '{name}', which is not supported"),
        };
    }
}
