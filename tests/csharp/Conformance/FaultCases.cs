using System;
using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Bundles;
using NudgeOnnx.Inference;

namespace NudgeOnnx.Conformance
{
    /// <summary>
    /// Lets each pass of a text fail in turn, before it begins and while it runs: what is read afterwards equals what a fresh
    /// reader finds.
    /// </summary>
    internal static class FaultCases
    {
        private const int Steps = 12;
        // More than a cache's first capacity, so that it grows, and before the edge of a segment.
        private const int Prompt = 314;

        internal static void Check(string bundle, Report report)
        {
            using var graph = ModelSession.Open(Bundle.Open(bundle), "base", new LoadOptions());
            var ids = Enumerable.Range(0, Prompt).Select(at => (1 + 7919 * at) % graph.Record.VocabularySize).ToList();
            var passes = 0;
            string wanted;
            using (var fresh = new RememberedRows(graph))
            {
                wanted = Read(fresh, ids, () => passes++);
            }
            for (var fault = 0; fault < passes; fault++)
            {
                foreach (var inside in new[] { false, true })
                {
                    using var memory = new RememberedRows(graph);
                    var pass = 0;
                    try
                    {
                        Read(memory, ids, () =>
                        {
                            var fails = pass++ == fault;
                            memory.Decoder.Terminate(fails && inside);
                            if (fails && !inside)
                            {
                                throw new OperationCanceledException();
                            }
                        });
                        report.Differ($"fault {fault}", "a fault", "none");
                    }
                    catch (Exception error) when (error is OperationCanceledException or NudgeException)
                    {
                        memory.Decoder.Terminate(false);
                        // Behind the prompt a text goes on where it stood; else it begins anew.
                        var goesOn = memory.Held.Count >= Prompt;
                        var found = Read(memory, ids, () => { }, goesOn);
                        report.Compare($"behind fault {fault}, inside: {inside}", wanted, found);
                    }
                }
            }
        }

        /// <summary>What a memory chooses behind a prompt, step by step, with a rewind on the way.</summary>
        private static string Read(RememberedRows memory, List<int> prompt, Action beforePass, bool goesOn = false)
        {
            var ids = new List<int>(prompt);
            var found = new List<string>();
            if (!goesOn)
            {
                memory.Start(new GateSetting(Gate.Top1, 0.5), default);
            }
            memory.Decoder.BeforePass = beforePass;
            if (!goesOn)
            {
                memory.Prefill(ids, new[] { 0, 1 });
            }
            for (var step = 0; step < Steps; step++)
            {
                // A guess that is right half of the time, so that some rows are rewound.
                var choice = memory.Next(ids, new[] { step });
                found.Add($"{choice.Token} {choice.Top1:R}");
                ids.Add(step % 2 == 0 ? step : choice.Token);
            }
            return string.Join(", ", found);
        }
    }
}
