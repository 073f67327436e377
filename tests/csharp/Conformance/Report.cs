using System;
using System.Text.Json;

namespace NudgeOnnx.Conformance
{
    /// <summary>Counts comparisons and prints the first differences.</summary>
    internal sealed class Report
    {
        private const int MostPrinted = 20;

        private int _equal;
        private int _different;

        /// <summary>Compare what is wanted and found, as text.</summary>
        internal void Compare(string what, string wanted, string found)
        {
            if (wanted == found)
            {
                _equal++;
            }
            else
            {
                Differ(what, wanted, found);
            }
        }

        /// <summary>Note a comparison that held.</summary>
        internal void Agree() => _equal++;

        /// <summary>Note a comparison that did not hold.</summary>
        internal void Differ(string what, string wanted, string found)
        {
            if (_different++ < MostPrinted)
            {
                Console.WriteLine($"{what}\n  wanted {Quoted(wanted)}\n  found  {Quoted(found)}");
            }
        }

        /// <summary>Print the counts; returns the exit status.</summary>
        internal int Print()
        {
            Console.WriteLine($"{{\"equal\": {_equal}, \"different\": {_different}}}");
            return _different == 0 ? 0 : 1;
        }

        private static string Quoted(string text) => JsonSerializer.Serialize(text);
    }
}
