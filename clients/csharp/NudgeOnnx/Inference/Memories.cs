using System;
using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx.Inference
{
    /// <summary>The memories of one conversation: one for each model that takes part.</summary>
    internal sealed class Memories : IDisposable
    {
        internal Memories(IReadOnlyDictionary<string, ModelSession> models)
        {
            Base = new RememberedRows(models["base"]);
            Nudge = new RememberedRows(models["nudge"]);
        }

        internal RememberedRows Base { get; }

        internal RememberedRows Nudge { get; }

        /// <summary>Positions in the caches.</summary>
        internal int Held => Base.Held.Count + Nudge.Held.Count;

        /// <summary>How many of these ids the caches hold already.</summary>
        internal int Shared(IReadOnlyList<int> baseIds, IReadOnlyList<int> nudgeIds) =>
            RememberedRows.CommonPrefix(Base.Held, baseIds) + RememberedRows.CommonPrefix(Nudge.Held, nudgeIds);

        /// <inheritdoc/>
        public void Dispose()
        {
            Base.Dispose();
            Nudge.Dispose();
        }
    }

    /// <summary>
    /// Open models and the memories that lie idle: conversations may alternate and find what they left, and streams never
    /// share. Safe for several threads.
    /// </summary>
    internal sealed class MemoryPool : IDisposable
    {
        private readonly IReadOnlyDictionary<string, ModelSession> _models;
        private readonly int _kept;
        private readonly object _lock = new object();
        private readonly List<Memories> _idle = new List<Memories>();
        private int _lent;
        private bool _closed;

        /// <param name="models">Models by role; the pool disposes them.</param>
        /// <param name="kept">How many idle memories are kept.</param>
        internal MemoryPool(IReadOnlyDictionary<string, ModelSession> models, int kept)
        {
            _models = models;
            _kept = Math.Max(1, kept);
        }

        /// <summary>The provider that each model runs on, by role.</summary>
        internal IReadOnlyDictionary<string, string> Providers =>
            _models.ToDictionary(entry => entry.Key, entry => entry.Value.Provider);

        /// <summary>Which passes share bits where each model runs, by role.</summary>
        internal IReadOnlyDictionary<string, RowBits> Rows =>
            _models.ToDictionary(entry => entry.Key, entry => entry.Value.Rows);

        /// <summary>The idle memories that hold most of these prompts, or fresh ones where none holds much.</summary>
        internal Memories Lend(IReadOnlyList<int> baseIds, IReadOnlyList<int> nudgeIds)
        {
            lock (_lock)
            {
                ThrowIfClosed();
                _lent++;
                var best = _idle.OrderByDescending(memories => memories.Shared(baseIds, nudgeIds)).FirstOrDefault();
                if (best != null && 2 * best.Shared(baseIds, nudgeIds) < best.Held)
                {
                    // It holds another conversation, which may come back; where room is short the oldest one gives way.
                    best = _idle.Count < _kept ? null : _idle[0];
                }
                if (best is null)
                {
                    return new Memories(_models);
                }
                _idle.Remove(best);
                return best;
            }
        }

        /// <summary>Give memories back; the least recently used are dropped where there are too many.</summary>
        internal void Return(Memories memories)
        {
            lock (_lock)
            {
                _lent--;
                _idle.Add(memories);
                while (_idle.Count > (_closed ? 0 : _kept))
                {
                    _idle[0].Dispose();
                    _idle.RemoveAt(0);
                }
                CloseGraphs();
            }
        }

        internal void ThrowIfClosed()
        {
            if (_closed)
            {
                throw new ObjectDisposedException(nameof(NudgedModel), "this NudgedModel is disposed; load the bundle again");
            }
        }

        /// <summary>Free what is idle; the sessions are freed when the last stream on its way has ended.</summary>
        public void Dispose()
        {
            lock (_lock)
            {
                if (!_closed)
                {
                    _closed = true;
                    _idle.ForEach(memories => memories.Dispose());
                    _idle.Clear();
                    CloseGraphs();
                }
            }
        }

        private void CloseGraphs()
        {
            if (_closed && _lent == 0)
            {
                foreach (var model in _models.Values)
                {
                    model.Dispose();
                }
            }
        }
    }
}
