using System;
using System.IO;
using System.Linq;
using System.Text.Json;

namespace NudgeOnnx.Conformance
{
    /// <summary>
    /// Reads vectors and says where this library differs: <c>tokenizer|utf8|templates|prompts FILE</c>, <c>traces FILE
    /// [READ_AHEAD]</c>. Files that a vector names are relative to it. <c>streams BUNDLE</c> tries what a caller may do with
    /// streams. Prints each difference and then, as JSON, how many comparisons held and did not. <c>rows BUNDLE</c> prints
    /// which passes share bits here. <c>faults BUNDLE</c> lets passes fail.
    /// </summary>
    internal static class Program
    {
        private static int Main(string[] arguments)
        {
            var report = new Report();
            if (arguments[0] == "streams")
            {
                StreamCases.Check(arguments[1], report).GetAwaiter().GetResult();
                return report.Print();
            }
            if (arguments[0] == "faults")
            {
                FaultCases.Check(arguments[1], report);
                return report.Print();
            }
            if (arguments[0] == "rows")
            {
                using var model = NudgedModel.Load(arguments[1]);
                Console.WriteLine(JsonSerializer.Serialize(
                    model.RowBits.ToDictionary(one => one.Key, one => one.Value.ToString().ToLowerInvariant())));
                return 0;
            }
            var file = Path.GetFullPath(arguments[1]);
            using var document = JsonDocument.Parse(File.ReadAllBytes(file));
            var cases = document.RootElement.EnumerateArray();
            var folder = Path.GetDirectoryName(file)!;
            switch (arguments[0])
            {
                case "tokenizer":
                    foreach (var one in cases)
                    {
                        TokenizerCases.Check(one, folder, report);
                    }
                    break;
                case "utf8":
                    foreach (var one in cases)
                    {
                        TextCases.CheckBytes(one, report);
                    }
                    break;
                case "templates":
                    foreach (var one in cases)
                    {
                        TextCases.CheckTemplate(one, report);
                    }
                    break;
                case "prompts":
                    foreach (var one in cases)
                    {
                        PromptCases.Check(one, folder, report);
                    }
                    break;
                case "traces":
                    int? readAhead = arguments.Length > 2 ? int.Parse(arguments[2], System.Globalization.CultureInfo.InvariantCulture) : null;
                    foreach (var bundle in cases.GroupBy(one => one.GetProperty("bundle").GetString()!))
                    {
                        TraceCases.Check(Path.Combine(folder, bundle.Key), bundle, readAhead, report);
                    }
                    break;
                default:
                    throw new ArgumentException($"unknown kind of vectors {arguments[0]}");
            }
            return report.Print();
        }
    }
}
