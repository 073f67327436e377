using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using NudgeOnnx.Bundles;
using NudgeOnnx.Decoding;
using NudgeOnnx.Text;

namespace NudgeOnnx.Conformance
{
    /// <summary>What a caller may do with streams besides reading one to its end.</summary>
    internal static class StreamCases
    {
        private const string Prompt = "the cat sat on a mat";
        private static readonly StreamOptions Options = new StreamOptions { Gamma = 0.3, MaxNewTokens = 40 };

        /// <summary>A stop text inside a piece whose ids write less than its text, as where a tokenizer normalises.</summary>
        private static void EndsInsideAPiece(string bundle, Report report)
        {
            var opened = Bundle.Open(bundle);
            var tokenizer = Tokenizer.Open(opened.PathOf(opened.Manifest.Models["base"].Tokenizer));
            var piece = new Piece("what is there is long", Source.Base, tokenizer.Encode("a").Take(1).ToArray(), new double?[] { 1 });
            var cut = new StopTexts(new Given(piece), new[] { "long" }, _ => tokenizer).Run().Single();
            report.Compare("cut inside a piece", "what is there is  1", $"{cut.Text} {cut.TokenIds.Count}");
        }

        /// <summary>System messages stay what and where they are; an empty one that was asked for is one.</summary>
        private static void Conversations(Report report)
        {
            static string Roles(string? system, params string[] roles) => string.Join(
                " ", Conversation.Checked(roles.Select(role => new Message(role, "x")), system).Select(turn => turn.Role + turn.Content));
            report.Compare("two systems", "systemx userx systemx userx", Roles("y", "system", "user", "system", "user"));
            report.Compare("an empty system", "system userx", Roles("", "user"));
            report.Compare("no system", "userx", Roles(null, "user"));
            Throws<NudgeException>("half a character", report, () => Conversation.Checked(new[] { new Message("user", "\ud800") }, null));
            Throws<NudgeException>("nobody asks", report, () => Conversation.Checked(new[] { new Message("system", "x") }, null));
        }

        private sealed class Given : IPieces
        {
            private readonly Piece _piece;

            internal Given(Piece piece) => _piece = piece;

            /// <inheritdoc/>
            public FinishReason Finish => FinishReason.Length;

            /// <inheritdoc/>
            public IEnumerable<Piece> Run() => new[] { _piece };
        }

        internal static async Task Check(string bundle, Report report)
        {
            EndsInsideAPiece(bundle, report);
            Conversations(report);
            var model = NudgedModel.Load(bundle);
            var wanted = model.Generate(Prompt, Options);
            void Same(string what, Answer answer) => report.Compare(what, Shown(wanted), Shown(answer));

            var pieces = new List<Piece>();
            await foreach (var piece in model.StreamAsync(Prompt, Options))
            {
                pieces.Add(piece);
            }
            report.Compare("asynchronously", wanted.Text, string.Concat(pieces.Select(piece => piece.Text)));

            var left = model.Stream(Prompt, Options);
            report.Compare("the first piece", wanted.Pieces[0].Text, left.First().Text);
            report.Compare("left early", "Cancelled", left.Answer.FinishReason.ToString());
            Same("after one was left early", model.Generate(Prompt, Options));

            using (var source = new CancellationTokenSource())
            {
                var stream = model.Stream(Prompt, Options, source.Token);
                await Throws<OperationCanceledException>("cancelled", report, async () =>
                {
                    await foreach (var _ in stream)
                    {
                        source.Cancel();
                    }
                });
                report.Compare("cancelled", "Cancelled", stream.Answer.FinishReason.ToString());
            }
            Same("after one was cancelled", model.Generate(Prompt, Options));

            var twice = model.Stream(Prompt, Options);
            report.Compare("read to its end", wanted.Pieces.Count.ToString(), twice.Count().ToString());
            Throws<InvalidOperationException>("read twice", report, () => twice.Count());

            var others = model.Generate("Why?", Options);
            var answers = await Task.WhenAll(Enumerable.Range(0, 6).Select(
                i => Task.Run(() => model.Generate(i % 2 == 0 ? Prompt : "Why?", Options))));
            for (var i = 0; i < answers.Length; i++)
            {
                report.Compare($"in parallel {i}", Shown(i % 2 == 0 ? wanted : others), Shown(answers[i]));
            }

            using (var reading = model.Stream(Prompt, Options).GetEnumerator())
            {
                reading.MoveNext();
                model.Dispose();
                var count = 1;
                while (reading.MoveNext())
                {
                    count++;
                }
                report.Compare("a stream on its way ends", wanted.Pieces.Count.ToString(), count.ToString());
            }
            Throws<ObjectDisposedException>("disposed", report, () => model.Stream(Prompt));
        }

        private static string Shown(Answer answer) =>
            $"{answer.FinishReason} {string.Join(" ", answer.Pieces.Select(piece => TokenizerCases.Joined(piece.TokenIds)))}";

        private static void Throws<T>(string what, Report report, Action action)
            where T : Exception =>
            Throws<T>(what, report, () =>
            {
                action();
                return Task.CompletedTask;
            }).GetAwaiter().GetResult();

        private static async Task Throws<T>(string what, Report report, Func<Task> action)
            where T : Exception
        {
            try
            {
                await action();
                report.Differ(what, typeof(T).Name, "no exception");
            }
            catch (T)
            {
                report.Agree();
            }
        }
    }
}
