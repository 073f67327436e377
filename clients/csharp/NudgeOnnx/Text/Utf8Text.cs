using System;
using System.Text;

namespace NudgeOnnx.Text
{
    /// <summary>
    /// Bytes as text, where the last character may have only begun. What is no UTF-8 becomes U+FFFD, one for each
    /// longest part of a character ("maximal subpart", Unicode 3.9), like in Python and in browsers.
    /// </summary>
    internal static class Utf8Text
    {
        /// <summary>The text of <paramref name="data"/> without a character that it only begins, and the length of that.</summary>
        internal static string Decode(ReadOnlySpan<byte> data, out int pending)
        {
            var text = new StringBuilder(data.Length);
            pending = 0;
            var at = 0;
            while (at < data.Length)
            {
                var (length, low, high) = Shape(data[at]);
                var read = 1;
                while (read < length && at + read < data.Length && data[at + read] >= low && data[at + read] <= high)
                {
                    read++;
                    (low, high) = (0x80, 0xBF);
                }
                // A cut surrogate (0xED, 0xA0 to 0xBF) is no character, but Python waits for its third byte too.
                if (data[at] == 0xED && at + 2 == data.Length && data[at + 1] is >= 0xA0 and <= 0xBF)
                {
                    read = 2;
                }
                if (read < length && at + read == data.Length)
                {
                    pending = read;
                    break;
                }
                text.Append(read == length ? Character(data.Slice(at, length)) : "\uFFFD");
                at += read;
            }
            return text.ToString();
        }

        /// <summary>How many bytes at the end of <paramref name="data"/> begin a character and do not finish it (0 to 3).</summary>
        internal static int Open(ReadOnlySpan<byte> data)
        {
            if (data.Length == 0 || data[data.Length - 1] < 0x80)
            {
                return 0;
            }
            Decode(data.Slice(Math.Max(0, data.Length - 4)), out var pending);
            return pending;
        }

        /// <summary>How long the character is that a byte begins (0: none), and what the byte after it may be.</summary>
        private static (int Length, byte Low, byte High) Shape(byte first) => first switch
        {
            < 0x80 => (1, 0x80, 0xBF),
            < 0xC2 => (0, 0x80, 0xBF),
            < 0xE0 => (2, 0x80, 0xBF),
            0xE0 => (3, 0xA0, 0xBF),
            0xED => (3, 0x80, 0x9F),
            < 0xF0 => (3, 0x80, 0xBF),
            0xF0 => (4, 0x90, 0xBF),
            < 0xF4 => (4, 0x80, 0xBF),
            0xF4 => (4, 0x80, 0x8F),
            _ => (0, 0x80, 0xBF),
        };

        private static string Character(ReadOnlySpan<byte> bytes)
        {
            var code = bytes.Length switch { 1 => bytes[0], 2 => bytes[0] & 0x1F, 3 => bytes[0] & 0x0F, _ => bytes[0] & 0x07 };
            for (var i = 1; i < bytes.Length; i++)
            {
                code = (code << 6) | (bytes[i] & 0x3F);
            }
            return char.ConvertFromUtf32(code);
        }
    }
}
