using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace NudgeOnnx.Text
{
    /// <summary>Text by code points, where .NET counts UTF-16 units.</summary>
    internal static class CodePoints
    {
        /// <summary>UTF-16 units of the code point at <paramref name="at"/>: 1 or 2.</summary>
        internal static int LengthAt(string text, int at) =>
            at + 1 < text.Length && char.IsSurrogatePair(text[at], text[at + 1]) ? 2 : 1;

        /// <summary>How many code points <paramref name="text"/> has.</summary>
        internal static int Count(string text)
        {
            var count = 0;
            for (var at = 0; at < text.Length; at += LengthAt(text, at))
            {
                count++;
            }
            return count;
        }

        /// <summary>
        /// <paramref name="text"/> with one UTF-16 unit for each code point, so that a .NET regular expression sees what
        /// one over code points would: a character beyond U+FFFF becomes one of its general category. The list has the
        /// place of each in the text, and the text's length at its end.
        /// </summary>
        internal static string Shadow(string text, out List<int> places)
        {
            var shadow = new StringBuilder(text.Length);
            places = new List<int>(text.Length + 1);
            for (var at = 0; at < text.Length;)
            {
                places.Add(at);
                var length = LengthAt(text, at);
                shadow.Append(length == 1 ? text[at] : StandIn(CharUnicodeInfo.GetUnicodeCategory(text, at)));
                at += length;
            }
            places.Add(text.Length);
            return shadow.ToString();
        }

        private static char StandIn(UnicodeCategory category) => category switch
        {
            UnicodeCategory.UppercaseLetter => '\u00C0',
            UnicodeCategory.LowercaseLetter => '\u00E0',
            UnicodeCategory.TitlecaseLetter => '\u01C5',
            UnicodeCategory.ModifierLetter => '\u02B0',
            UnicodeCategory.OtherLetter => '\u4E00',
            UnicodeCategory.NonSpacingMark => '\u0301',
            UnicodeCategory.SpacingCombiningMark => '\u0903',
            UnicodeCategory.EnclosingMark => '\u20DD',
            UnicodeCategory.DecimalDigitNumber => '\u0661',
            UnicodeCategory.LetterNumber => '\u2160',
            UnicodeCategory.OtherNumber => '\u00B2',
            UnicodeCategory.ConnectorPunctuation => '\u203F',
            UnicodeCategory.DashPunctuation => '\u2013',
            UnicodeCategory.OpenPunctuation => '\u2045',
            UnicodeCategory.ClosePunctuation => '\u2046',
            UnicodeCategory.OtherPunctuation => '\u00A7',
            UnicodeCategory.MathSymbol => '\u00D7',
            UnicodeCategory.CurrencySymbol => '\u00A2',
            UnicodeCategory.ModifierSymbol => '\u00A8',
            UnicodeCategory.Format => '\u2060',
            UnicodeCategory.PrivateUse => '\uE000',
            UnicodeCategory.OtherNotAssigned => '\u0378',
            _ => '\u00A9',
        };
    }
}
