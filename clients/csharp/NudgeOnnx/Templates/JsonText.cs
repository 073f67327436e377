using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;

namespace NudgeOnnx.Templates
{
    /// <summary>The filter <c>tojson</c> as transformers has it: Python's <c>json.dumps</c>, and nothing escaped for HTML.</summary>
    internal sealed class JsonText
    {
        private readonly StringBuilder _text = new StringBuilder();
        private readonly bool _ascii;
        private readonly string? _indent;
        private readonly string _between;
        private readonly string _colon;
        private readonly bool _sorted;

        private JsonText(object? ascii, object? indent, object? separators, object? sorted)
        {
            _ascii = Values.IsTrue(ascii);
            _indent = indent switch
            {
                null => null,
                string text => text,
                _ => new string(' ', (int)Math.Max(0, Math.Min(Values.Number(indent) ?? 0, Meter.Widest))),
            };
            (_between, _colon) = separators is List<object?> { Count: 2 } pair
                ? (Values.Text(pair[0]), Values.Text(pair[1]))
                : (_indent is null ? ", " : ",", ": ");
            _sorted = Values.IsTrue(sorted);
        }

        /// <summary>The text of a value; the arguments are <c>ensure_ascii, indent, separators, sort_keys</c>.</summary>
        internal static string Write(object? value, List<object?> arguments, Dictionary<string, object?> named)
        {
            object? Argument(int place, string name) =>
                arguments.Count > place ? arguments[place] : named.TryGetValue(name, out var given) ? given : null;
            var json = new JsonText(
                Argument(0, "ensure_ascii"), Argument(1, "indent"), Argument(2, "separators"), Argument(3, "sort_keys"));
            json.Write(value, 0);
            return json._text.ToString();
        }

        private void Write(object? value, int depth)
        {
            Meter.Check(_text.Length);
            switch (value)
            {
                case null:
                    _text.Append("null");
                    break;
                case bool flag:
                    _text.Append(flag ? "true" : "false");
                    break;
                case string content:
                    Quote(content);
                    break;
                case List<object?> list:
                    Enclose("[]", list, depth, item => Write(item, depth + 1));
                    break;
                case Dictionary<string, object?> map:
                    var keys = _sorted ? map.Keys.OrderBy(key => key, StringComparer.Ordinal).ToList() : map.Keys.ToList();
                    Enclose("{}", keys, depth, key =>
                    {
                        Quote(key);
                        _text.Append(_colon);
                        Write(map[key], depth + 1);
                    });
                    break;
                default:
                    _text.Append(Values.Text(value));
                    break;
            }
        }

        private void Enclose<T>(string brackets, List<T> items, int depth, Action<T> write)
        {
            Meter.CheckDepth(depth);
            _text.Append(brackets[0]);
            for (var i = 0; i < items.Count; i++)
            {
                _text.Append(i == 0 ? "" : _between);
                NewLine(depth + 1);
                write(items[i]);
            }
            if (items.Count > 0)
            {
                NewLine(depth);
            }
            _text.Append(brackets[1]);
        }

        private void NewLine(int depth)
        {
            if (_indent != null)
            {
                _text.Append('\n');
                for (var level = 0; level < depth; level++)
                {
                    _text.Append(_indent);
                }
            }
        }

        private void Quote(string content)
        {
            _text.Append('"');
            foreach (var character in content)
            {
                _text.Append(character switch
                {
                    '"' => "\\\"",
                    '\\' => "\\\\",
                    '\n' => "\\n",
                    '\r' => "\\r",
                    '\t' => "\\t",
                    '\b' => "\\b",
                    '\f' => "\\f",
                    < ' ' => Escaped(character),
                    > '~' when _ascii => Escaped(character),
                    _ => character.ToString(),
                });
            }
            _text.Append('"');
        }

        private static string Escaped(char character) => "\\u" + ((int)character).ToString("x4", CultureInfo.InvariantCulture);
    }
}
