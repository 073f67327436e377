using System.Collections.Generic;

namespace NudgeOnnx.Text
{
    /// <summary>GPT-2's table of one character for each byte, in which byte-level tokens are spelt.</summary>
    internal static class ByteAlphabet
    {
        /// <summary>The character of each byte: printable Latin-1 bytes stand for themselves.</summary>
        internal static readonly char[] Characters = Make();

        private static readonly Dictionary<char, byte> Bytes = Invert();

        /// <summary>The bytes that a token spells, or <c>null</c> if a character of it is none of the table.</summary>
        internal static byte[]? BytesOf(string token)
        {
            var bytes = new byte[token.Length];
            for (var i = 0; i < token.Length; i++)
            {
                if (!Bytes.TryGetValue(token[i], out bytes[i]))
                {
                    return null;
                }
            }
            return bytes;
        }

        private static char[] Make()
        {
            var table = new char[256];
            var next = 256;
            for (var value = 0; value < 256; value++)
            {
                var printable = (value >= 0x21 && value <= 0x7E) || (value >= 0xA1 && value <= 0xAC) || value >= 0xAE;
                table[value] = printable ? (char)value : (char)next++;
            }
            return table;
        }

        private static Dictionary<char, byte> Invert()
        {
            var bytes = new Dictionary<char, byte>();
            for (var value = 0; value < 256; value++)
            {
                bytes[Characters[value]] = (byte)value;
            }
            return bytes;
        }
    }
}
