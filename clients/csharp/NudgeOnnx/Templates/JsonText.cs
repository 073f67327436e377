using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;

namespace NudgeOnnx.Templates
{
    /// <summary>The filter <c>tojson</c>: keys in order, ASCII only, and nothing that HTML would take for its own.</summary>
    internal static class JsonText
    {
        internal static string Write(object? value, int indent)
        {
            var text = new StringBuilder();
            Write(text, value, indent, 0);
            return text.ToString();
        }

        private static void Write(StringBuilder text, object? value, int indent, int depth)
        {
            switch (value)
            {
                case null:
                    text.Append("null");
                    break;
                case bool flag:
                    text.Append(flag ? "true" : "false");
                    break;
                case string content:
                    Quote(text, content);
                    break;
                case List<object?> list:
                    Enclose(text, "[]", list.Cast<object?>().ToList(), indent, depth, item => Write(text, item, indent, depth + 1));
                    break;
                case Dictionary<string, object?> map:
                    var keys = map.Keys.OrderBy(key => key, System.StringComparer.Ordinal).ToList();
                    Enclose(text, "{}", keys, indent, depth, key =>
                    {
                        Quote(text, key);
                        text.Append(": ");
                        Write(text, map[key], indent, depth + 1);
                    });
                    break;
                default:
                    text.Append(Values.Text(value));
                    break;
            }
        }

        private static void Enclose<T>(
            StringBuilder text, string brackets, List<T> items, int indent, int depth, System.Action<T> write)
        {
            text.Append(brackets[0]);
            for (var i = 0; i < items.Count; i++)
            {
                text.Append(i == 0 ? "" : indent > 0 ? "," : ", ");
                NewLine(text, indent, depth + 1);
                write(items[i]);
            }
            NewLine(text, items.Count > 0 ? indent : 0, depth);
            text.Append(brackets[1]);
        }

        private static void NewLine(StringBuilder text, int indent, int depth)
        {
            if (indent > 0)
            {
                text.Append('\n').Append(' ', indent * depth);
            }
        }

        private static void Quote(StringBuilder text, string content)
        {
            text.Append('"');
            foreach (var character in content)
            {
                text.Append(character switch
                {
                    '"' => "\\\"",
                    '\\' => "\\\\",
                    '\n' => "\\n",
                    '\r' => "\\r",
                    '\t' => "\\t",
                    '\b' => "\\b",
                    '\f' => "\\f",
                    < ' ' or > '~' or '<' or '>' or '&' or '\'' =>
                        "\\u" + ((int)character).ToString("x4", CultureInfo.InvariantCulture),
                    _ => character.ToString(),
                });
            }
            text.Append('"');
        }
    }
}
