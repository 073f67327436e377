using System.Collections.Generic;

namespace NudgeOnnx.Text
{
    /// <summary>A possible merge of two neighbours: its rank, the position of the left one, and what they become.</summary>
    internal readonly struct Merge
    {
        internal Merge(int rank, int position, int id)
        {
            Rank = rank;
            Position = position;
            Id = id;
        }

        internal int Rank { get; }

        internal int Position { get; }

        internal int Id { get; }

        internal bool Before(Merge other) => Rank != other.Rank ? Rank < other.Rank : Position < other.Position;
    }

    /// <summary>A binary heap of merges, lowest rank first and then leftmost.</summary>
    internal sealed class MergeQueue
    {
        private readonly List<Merge> _heap = new List<Merge>();

        internal void Push(Merge merge)
        {
            _heap.Add(merge);
            var child = _heap.Count - 1;
            while (child > 0)
            {
                var parent = (child - 1) / 2;
                if (!_heap[child].Before(_heap[parent]))
                {
                    break;
                }
                (_heap[child], _heap[parent]) = (_heap[parent], _heap[child]);
                child = parent;
            }
        }

        internal bool TryPop(out Merge first)
        {
            if (_heap.Count == 0)
            {
                first = default;
                return false;
            }
            first = _heap[0];
            _heap[0] = _heap[_heap.Count - 1];
            _heap.RemoveAt(_heap.Count - 1);
            var parent = 0;
            while (true)
            {
                var child = 2 * parent + 1;
                if (child >= _heap.Count)
                {
                    return true;
                }
                if (child + 1 < _heap.Count && _heap[child + 1].Before(_heap[child]))
                {
                    child++;
                }
                if (!_heap[child].Before(_heap[parent]))
                {
                    return true;
                }
                (_heap[child], _heap[parent]) = (_heap[parent], _heap[child]);
                parent = child;
            }
        }
    }
}
