using System;
using System.Globalization;
using System.Text;

namespace NudgeOnnx.Templates
{
    /// <summary>A time as text by C's <c>strftime</c> directives, with English names.</summary>
    internal static class TimeText
    {
        internal static string Format(DateTime time, string pattern)
        {
            var text = new StringBuilder();
            for (var at = 0; at < pattern.Length; at++)
            {
                if (pattern[at] != '%' || at + 1 == pattern.Length)
                {
                    text.Append(pattern[at]);
                    continue;
                }
                at++;
                text.Append(Directive(time, pattern[at]));
            }
            return text.ToString();
        }

        private static string Directive(DateTime time, char directive)
        {
            string Net(string format) => time.ToString(format, CultureInfo.InvariantCulture);
            return directive switch
            {
                'Y' => Net("yyyy"),
                'y' => Net("yy"),
                'm' => Net("MM"),
                'd' => Net("dd"),
                'B' => Net("MMMM"),
                'b' => Net("MMM"),
                'A' => Net("dddd"),
                'a' => Net("ddd"),
                'H' => Net("HH"),
                'I' => Net("hh"),
                'M' => Net("mm"),
                'S' => Net("ss"),
                'p' => Net("tt"),
                'j' => time.DayOfYear.ToString("D3", CultureInfo.InvariantCulture),
                '%' => "%",
                _ => throw new TemplateException(
                    $"the prompt template formats a time with %{directive}, which is not supported"),
            };
        }
    }
}
