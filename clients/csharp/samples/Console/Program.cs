using System;
using System.IO;
using System.Text;
using NudgeOnnx.Bundles;

namespace NudgeOnnx.Samples
{
    /// <summary>Answers one prompt, like <c>nudge-onnx run</c>: <c>run BUNDLE "prompt" [--json]</c>.</summary>
    internal static class Program
    {
        private static int Main(string[] arguments)
        {
            // Without a byte order mark, whatever the console's own encoding is.
            using var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false));
            try
            {
                Run(CommandLine.Parse(arguments), output);
                return 0;
            }
            catch (UsageException error)
            {
                Console.Error.WriteLine(error.Message);
                return 2;
            }
            catch (NudgeException error)
            {
                Console.Error.WriteLine($"Error: {error.Message}");
                return 1;
            }
        }

        private static void Run(CommandLine line, TextWriter output)
        {
            if (line.Command == "check")
            {
                Bundle.Open(line.Bundle).Verify();
                output.WriteLine("every file matches its SHA-256");
                return;
            }
            using var model = NudgedModel.Load(line.Bundle, line.Load);
            var stream = model.Stream(line.Prompt, line.Stream);
            foreach (var piece in stream)
            {
                if (!line.Json)
                {
                    output.Write(piece.Text);
                    output.Flush();
                }
            }
            output.WriteLine(line.Json ? stream.Answer.ToJson() : "");
        }
    }
}
