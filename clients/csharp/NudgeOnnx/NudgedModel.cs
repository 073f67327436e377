using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using NudgeOnnx.Bundles;
using NudgeOnnx.Decoding;
using NudgeOnnx.Inference;
using NudgeOnnx.Templates;
using NudgeOnnx.Text;

namespace NudgeOnnx
{
    /// <summary>
    /// A base model and a nudging model, open and ready. Threads may share it, each with its own stream.
    /// <code>
    /// using var model = NudgedModel.Load("bundle");
    /// foreach (var piece in model.Stream("Why is the sky blue?"))
    ///     Console.Write(piece.Text);
    /// </code>
    /// </summary>
    public sealed class NudgedModel : IDisposable
    {
        private static readonly string[] Roles = { "base", "nudge" };

        private readonly Dictionary<string, Tokenizer> _tokenizers;
        private readonly Dictionary<string, Template> _templates;
        private readonly MemoryPool _pool;
        private readonly double _loadSeconds;

        private NudgedModel(
            Bundle bundle,
            Dictionary<string, Tokenizer> tokenizers,
            Dictionary<string, Template> templates,
            MemoryPool pool,
            double loadSeconds)
        {
            Bundle = bundle;
            _tokenizers = tokenizers;
            _templates = templates;
            _pool = pool;
            _loadSeconds = loadSeconds;
        }

        /// <summary>The bundle's folder and manifest.</summary>
        public Bundle Bundle { get; }

        /// <summary>The provider that each model runs on, by role.</summary>
        public IReadOnlyDictionary<string, string> Providers => _pool.Providers;

        /// <summary>
        /// Which passes give a row of logits the same bits where each model runs, by role: found out when it is loaded. With
        /// <see cref="NudgeOnnx.RowBits.None"/> nothing is read ahead.
        /// </summary>
        public IReadOnlyDictionary<string, RowBits> RowBits => _pool.Rows;

        /// <summary>Open a bundle.</summary>
        /// <exception cref="BundleException">The folder is no bundle, or has something that is not supported.</exception>
        /// <exception cref="ProviderException">No wanted execution provider loads.</exception>
        public static NudgedModel Load(string folder, LoadOptions? options = null)
        {
            options ??= new LoadOptions();
            var clock = Stopwatch.StartNew();
            var bundle = Bundle.Open(folder);
            var graphs = new Dictionary<string, ModelSession>();
            try
            {
                foreach (var role in Roles)
                {
                    graphs[role] = ModelSession.Open(bundle, role, options);
                }
                var models = bundle.Manifest.Models;
                var tokenizers = Roles.ToDictionary(
                    role => role, role => Tokenizer.Open(bundle.PathOf(models[role].Tokenizer)));
                var templates = Roles.ToDictionary(role => role, role => new Template(models[role].Prompt.Template));
                var pool = new MemoryPool(graphs, options.KeptConversations);
                return new NudgedModel(bundle, tokenizers, templates, pool, clock.Elapsed.TotalSeconds);
            }
            catch
            {
                foreach (var graph in graphs.Values)
                {
                    graph.Dispose();
                }
                throw;
            }
        }

        /// <summary>Answer one user message, piece by piece.</summary>
        /// <inheritdoc cref="Stream(IEnumerable{Message}, StreamOptions, CancellationToken)"/>
        public AnswerStream Stream(
            string prompt, StreamOptions? options = null, CancellationToken cancellationToken = default) =>
            Stream(new[] { new Message("user", prompt) }, options, cancellationToken);

        /// <summary>Answer a conversation, piece by piece.</summary>
        /// <exception cref="NudgeException">An option is out of range.</exception>
        /// <exception cref="ContextLengthException">The prompt does not fit.</exception>
        /// <exception cref="TemplateException">A prompt template refuses the conversation.</exception>
        public AnswerStream Stream(
            IEnumerable<Message> messages, StreamOptions? options = null, CancellationToken cancellationToken = default)
        {
            _pool.ThrowIfClosed();
            var request = new Request(Bundle.Manifest, options ?? new StreamOptions());
            var turns = Conversation.Checked(messages, request.SystemPrompt);
            var (baseIds, nudgeIds) = (Prompt("base", turns, request.ControlTokens), Prompt("nudge", turns, request.ControlTokens));
            return new AnswerStream(
                (cancellation, timings, finish) => Write(request, baseIds, nudgeIds, cancellation, timings, finish),
                cancellationToken);
        }

        /// <summary>Answer one user message, piece by piece, without holding a thread of the caller.</summary>
        /// <inheritdoc cref="Stream(IEnumerable{Message}, StreamOptions, CancellationToken)"/>
        public IAsyncEnumerable<Piece> StreamAsync(
            string prompt, StreamOptions? options = null, CancellationToken cancellationToken = default) =>
            Stream(prompt, options, cancellationToken);

        /// <summary>Answer a conversation, piece by piece, without holding a thread of the caller.</summary>
        /// <inheritdoc cref="Stream(IEnumerable{Message}, StreamOptions, CancellationToken)"/>
        public IAsyncEnumerable<Piece> StreamAsync(
            IEnumerable<Message> messages, StreamOptions? options = null, CancellationToken cancellationToken = default) =>
            Stream(messages, options, cancellationToken);

        /// <summary>The whole answer to one user message at once.</summary>
        /// <inheritdoc cref="Stream(IEnumerable{Message}, StreamOptions, CancellationToken)"/>
        public Answer Generate(
            string prompt, StreamOptions? options = null, CancellationToken cancellationToken = default) =>
            ReadToEnd(Stream(prompt, options, cancellationToken));

        /// <summary>The whole answer to a conversation at once.</summary>
        /// <inheritdoc cref="Stream(IEnumerable{Message}, StreamOptions, CancellationToken)"/>
        public Answer Generate(
            IEnumerable<Message> messages, StreamOptions? options = null, CancellationToken cancellationToken = default) =>
            ReadToEnd(Stream(messages, options, cancellationToken));

        /// <summary>Free the sessions and caches; streams on their way may end, new ones are refused.</summary>
        public void Dispose() => _pool.Dispose();

        private static Answer ReadToEnd(AnswerStream stream)
        {
            foreach (var _ in stream)
            {
            }
            return stream.Answer;
        }

        private PromptIds Prompt(string role, IReadOnlyList<Message> messages, ControlTokens controlTokens)
        {
            var model = Bundle.Manifest.Models[role];
            var prompt = PromptIds.Of(_tokenizers[role], _templates[role], model.Prompt, messages, controlTokens, role);
            if (prompt.Ids.Count == 0)
            {
                throw new NudgeException($"the prompt of the {role} model is empty; write something");
            }
            if (prompt.Ids.Count >= model.ContextLength - 1)
            {
                throw new ContextLengthException(
                    $"the prompt has {prompt.Ids.Count} tokens and the {role} model's context is {model.ContextLength}; "
                    + "shorten the prompt or the conversation");
            }
            return prompt;
        }

        /// <summary>Lend caches to the loop, prefill them, and keep count.</summary>
        private IEnumerable<Piece> Write(
            Request request,
            PromptIds baseIds,
            PromptIds nudgeIds,
            CancellationToken cancellation,
            Timings timings,
            Action<FinishReason> finish)
        {
            timings.Load = _loadSeconds;
            var memories = _pool.Lend(baseIds.Ids, nudgeIds.Ids);
            var meter = new Meter(memories, timings);
            try
            {
                memories.Base.Start(request.Gate, cancellation);
                // No gate is asked of the nudging model.
                memories.Nudge.Start(new GateSetting(Gate.Top1, request.Gate.Gamma), cancellation);
                var pieces = Loop(request, memories, baseIds, nudgeIds);
                memories.Base.Prefill(baseIds.Ids, baseIds.Blocks);
                memories.Nudge.Prefill(nudgeIds.Ids, nudgeIds.Blocks);
                meter.Prefilled();
                using var source = pieces.Run().GetEnumerator();
                while (meter.Time(source.MoveNext))
                {
                    yield return source.Current;
                }
                finish(pieces.Finish);
            }
            finally
            {
                meter.Count();
                _pool.Return(memories);
            }
        }

        private IPieces Loop(Request request, Memories memories, PromptIds baseIds, PromptIds nudgeIds)
        {
            var models = Bundle.Manifest.Models;
            Participant ParticipantOf(string role, RememberedRows memory, PromptIds ids) => request.SharesIds
                ? new IdParticipant(memory, ids, _tokenizers[role], models[role].EndTokenIds)
                : (Participant)new TextParticipant(memory, ids, _tokenizers[role], models[role].EndTokenIds);
            var loop = new NudgingLoop(
                ParticipantOf("base", memories.Base, baseIds),
                ParticipantOf("nudge", memories.Nudge, nudgeIds),
                new Transcript(request.MaxNewTokens),
                draft => request.SharesIds ? draft.TokenHandOvers() : draft.WordHandOvers(),
                request.DraftTokens,
                new Speculation(
                    memories.Base.Decoder.ReadsAhead ? request.ReadAhead : 0,
                    memories.Base.Decoder.Costs,
                    memories.Nudge.Decoder.Costs),
                request.ReadAhead != 0 && memories.Nudge.Decoder.ReadsAhead,
                request.Tail == "lazy",
                request.Gate.Gate == Gate.Bet ? request.Gate.Gamma : (double?)null);
            return request.Stop.Count == 0
                ? loop
                : (IPieces)new StopTexts(loop, request.Stop, source => _tokenizers[source == Source.Base ? "base" : "nudge"]);
        }
    }
}
