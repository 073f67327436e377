namespace NudgeOnnx.Text
{
    /// <summary>What counts as blank where the method trims or counts words: Unicode white space and U+001C to U+001F.</summary>
    internal static class Blanks
    {
        internal static bool IsBlank(char character) =>
            char.IsWhiteSpace(character) || (character >= '\u001C' && character <= '\u001F');

        internal static string TrimStart(string text)
        {
            var start = 0;
            while (start < text.Length && IsBlank(text[start]))
            {
                start++;
            }
            return text.Substring(start);
        }

        internal static string TrimEnd(string text)
        {
            var end = text.Length;
            while (end > 0 && IsBlank(text[end - 1]))
            {
                end--;
            }
            return text.Substring(0, end);
        }

        internal static string Trim(string text) => TrimStart(TrimEnd(text));

        /// <summary>How many words stand between blanks.</summary>
        internal static int Words(string text)
        {
            var words = 0;
            var inside = false;
            foreach (var character in text)
            {
                var blank = IsBlank(character);
                words += !blank && !inside ? 1 : 0;
                inside = !blank;
            }
            return words;
        }
    }
}
