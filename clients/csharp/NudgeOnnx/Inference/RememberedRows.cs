using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using NudgeOnnx.Text;

namespace NudgeOnnx.Inference
{
    /// <summary>
    /// A decoder with a memory: asks for the token after some ids are answered from what was already read. A caller may
    /// say what is likely to come next; those rows are read in the same pass and remembered. Asking is the same with and
    /// without, so reading ahead cannot change an answer. Not for two threads at once.
    /// </summary>
    internal sealed class RememberedRows : IDisposable
    {
        // A prompt that shares less than this with a cache (a BOS, the beginning of a template) is read as if it shared nothing.
        private const int WorthKeeping = 16;

        private readonly List<int> _held = new List<int>();
        private readonly List<Choice?> _choices = new List<Choice?>();
        private readonly ModelSession _model;
        private Outputs? _outputs;

        internal RememberedRows(ModelSession model)
        {
            _model = model;
            Decoder = new Decoder(model);
        }

        internal Decoder Decoder { get; }

        /// <summary>The ids in the cache.</summary>
        internal IReadOnlyList<int> Held
        {
            get
            {
                Agree();
                return _held;
            }
        }

        /// <summary>Begin an answer with a gate; what was chosen before is forgotten, the cache stays.</summary>
        internal void Start(GateSetting gate, CancellationToken cancellation)
        {
            Decoder.BeforePass = cancellation.ThrowIfCancellationRequested;
            _outputs?.Dispose();
            _outputs = Outputs.Make(_model, gate);
            for (var i = 0; i < _choices.Count; i++)
            {
                _choices[i] = null;
            }
        }

        /// <summary>
        /// Read a prompt: all of it if the cache holds next to nothing of it, else only what is new.
        /// <paramref name="blocks"/> are those that are read in one pass each (see <see cref="PromptBlocks"/>).
        /// </summary>
        /// <exception cref="LogitsException">The model returned broken logits.</exception>
        internal void Prefill(IReadOnlyList<int> ids, IReadOnlyCollection<int> blocks)
        {
            Agree();
            var shared = Math.Min(CommonPrefix(_held, ids), ids.Count - 1);
            var kept = shared >= WorthKeeping ? Decoder.Kept(shared, blocks) : 0;
            Forget(kept);
            var fresh = ids.Skip(kept).ToList();
            Keep(fresh, Decoder.Prefill(fresh, kept, blocks, Started));
        }

        /// <summary>Whether <see cref="Next"/> needs no pass.</summary>
        internal bool Knows(IReadOnlyList<int> ids)
        {
            Agree();
            return CommonPrefix(_held, ids) == ids.Count && _choices[ids.Count - 1] != null;
        }

        /// <summary>
        /// The choice after <paramref name="ids"/> (at least one); <paramref name="ahead"/> may guess the ids that come then.
        /// </summary>
        /// <exception cref="ContextLengthException">The ids do not fit.</exception>
        /// <exception cref="LogitsException">The model returned broken logits.</exception>
        internal Choice Next(IReadOnlyList<int> ids, IEnumerable<int>? ahead = null)
        {
            Agree();
            var shared = CommonPrefix(_held, ids);
            if (shared == ids.Count)
            {
                if (_choices[shared - 1] is { } known)
                {
                    return known;
                }
                shared--;
            }
            var room = Math.Max(0, Decoder.ContextLength - ids.Count);
            var guess = (ahead ?? Enumerable.Empty<int>()).Take(room).ToList();
            Read(shared, ids.Skip(shared).Concat(guess).ToList(), 1 + guess.Count);
            return _choices[ids.Count - 1]!.Value;
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            _outputs?.Dispose();
            Decoder.Dispose();
        }

        /// <summary>Length of the longest common prefix.</summary>
        internal static int CommonPrefix(IReadOnlyList<int> one, IReadOnlyList<int> other)
        {
            var shorter = Math.Min(one.Count, other.Count);
            var length = 0;
            while (length < shorter && one[length] == other[length])
            {
                length++;
            }
            return length;
        }

        private Outputs Started => _outputs ?? throw new InvalidOperationException($"{nameof(Start)} comes first");

        /// <summary>Hold what the decoder holds, wherever the last call was interrupted.</summary>
        private void Agree()
        {
            var length = Math.Min(Math.Min(_held.Count, _choices.Count), Decoder.Length);
            _held.RemoveRange(length, _held.Count - length);
            _choices.RemoveRange(length, _choices.Count - length);
        }

        private void Read(int shared, List<int> fresh, int rows)
        {
            Forget(shared);
            Keep(fresh, Decoder.Feed(fresh, rows, Started));
        }

        private void Forget(int from)
        {
            _held.RemoveRange(from, _held.Count - from);
            _choices.RemoveRange(from, _choices.Count - from);
            Decoder.Rewind(from);
        }

        /// <summary>Remember what was chosen after the last of the new ids.</summary>
        private void Keep(IReadOnlyList<int> fresh, IReadOnlyList<Choice> choices)
        {
            _held.AddRange(fresh);
            _choices.AddRange(Enumerable.Repeat<Choice?>(null, fresh.Count - choices.Count));
            _choices.AddRange(choices.Select(choice => (Choice?)choice));
        }
    }
}
