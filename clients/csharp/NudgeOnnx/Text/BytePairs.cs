using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace NudgeOnnx.Text
{
    /// <summary>What a BPE model of a <c>tokenizer.json</c> says besides its vocabulary and merges.</summary>
    /// <param name="ByteLevel">Whether tokens spell bytes in <see cref="ByteAlphabet"/>; else they spell characters.</param>
    /// <param name="ByteFallback">Whether an unknown character becomes the tokens <c>&lt;0xNN&gt;</c> of its bytes.</param>
    /// <param name="IgnoreMerges">Whether a word that is a token needs no merges.</param>
    /// <param name="UnknownToken">What an unknown character becomes, or <c>null</c>: nothing.</param>
    /// <param name="FuseUnknown">Whether a run of unknown characters becomes one unknown token.</param>
    internal sealed record BytePairOptions(
        bool ByteLevel, bool ByteFallback, bool IgnoreMerges, string? UnknownToken, bool FuseUnknown);

    /// <summary>Byte-pair encoding (Sennrich et al. 2016) of one pre-token: the merge of lowest rank comes first.</summary>
    internal sealed class BytePairs
    {
        private const int LongestKept = 64;
        private const int MostKept = 20000;

        private readonly Dictionary<string, int> _vocabulary;
        private readonly Dictionary<long, (int Rank, int Id)> _merges;
        private readonly BytePairOptions _options;
        private readonly int _unknown;
        private readonly Dictionary<string, int[]> _kept = new Dictionary<string, int[]>();

        internal BytePairs(
            Dictionary<string, int> vocabulary, IEnumerable<(string Left, string Right)> merges, BytePairOptions options)
        {
            _vocabulary = vocabulary;
            _options = options;
            _unknown = options.UnknownToken != null && vocabulary.TryGetValue(options.UnknownToken, out var id) ? id : -1;
            _merges = new Dictionary<long, (int, int)>();
            var rank = 0;
            foreach (var (left, right) in merges)
            {
                if (!vocabulary.TryGetValue(left, out var a)
                    || !vocabulary.TryGetValue(right, out var b)
                    || !vocabulary.TryGetValue(left + right, out var merged))
                {
                    throw new BundleException(
                        $"a tokenizer merges '{left}' and '{right}', which its vocabulary lacks; export the bundle again");
                }
                _merges[Pair(a, b)] = (rank++, merged);
            }
        }

        /// <summary>Add the ids of <paramref name="word"/> to <paramref name="ids"/>.</summary>
        internal void Encode(string word, List<int> ids)
        {
            if (word.Length > LongestKept)
            {
                ids.AddRange(Merged(word));
                return;
            }
            int[] found;
            lock (_kept)
            {
                if (_kept.TryGetValue(word, out var known))
                {
                    ids.AddRange(known);
                    return;
                }
                if (_kept.Count >= MostKept)
                {
                    _kept.Clear();
                }
                _kept[word] = found = Merged(word).ToArray();
            }
            ids.AddRange(found);
        }

        private static long Pair(int left, int right) => ((long)left << 32) | (uint)right;

        private List<int> Merged(string word)
        {
            var spelling = _options.ByteLevel ? Spelling(word) : word;
            if (_options.IgnoreMerges && _vocabulary.TryGetValue(spelling, out var whole))
            {
                return new List<int> { whole };
            }
            var ids = Symbols(spelling);
            var count = ids.Count;
            // A chain of symbols: a merged one keeps the left position, the right one becomes -1.
            var next = Enumerable.Range(1, count).ToArray();
            var previous = Enumerable.Range(-1, count).ToArray();
            var queue = new MergeQueue();
            void Offer(int left)
            {
                if (left >= 0 && next[left] < count && _merges.TryGetValue(Pair(ids[left], ids[next[left]]), out var merge))
                {
                    queue.Push(new Merge(merge.Rank, left, merge.Id));
                }
            }
            for (var i = 0; i < count; i++)
            {
                Offer(i);
            }
            while (queue.TryPop(out var top))
            {
                var left = top.Position;
                // The neighbours may have changed since; a pair that makes the same token is as good.
                if (ids[left] < 0
                    || next[left] >= count
                    || !_merges.TryGetValue(Pair(ids[left], ids[next[left]]), out var merge)
                    || merge.Id != top.Id)
                {
                    continue;
                }
                var right = next[left];
                ids[left] = top.Id;
                ids[right] = -1;
                next[left] = next[right];
                if (next[left] < count)
                {
                    previous[next[left]] = left;
                }
                Offer(previous[left]);
                Offer(left);
            }
            ids.RemoveAll(id => id < 0);
            return ids;
        }

        private static string Spelling(string word) =>
            string.Concat(Encoding.UTF8.GetBytes(word).Select(value => ByteAlphabet.Characters[value]));

        /// <summary>The ids of single characters.</summary>
        private List<int> Symbols(string spelling)
        {
            var ids = new List<int>(spelling.Length);
            var afterUnknown = false;
            for (var at = 0; at < spelling.Length;)
            {
                var length = CodePoints.LengthAt(spelling, at);
                var character = spelling.Substring(at, length);
                at += length;
                if (_vocabulary.TryGetValue(character, out var id))
                {
                    ids.Add(id);
                    afterUnknown = false;
                }
                else if (_options.ByteFallback && TryBytes(character, out var bytes))
                {
                    ids.AddRange(bytes);
                    afterUnknown = false;
                }
                else if (_unknown >= 0)
                {
                    if (!afterUnknown || !_options.FuseUnknown)
                    {
                        ids.Add(_unknown);
                    }
                    afterUnknown = true;
                }
            }
            return ids;
        }

        private bool TryBytes(string character, out List<int> ids)
        {
            ids = new List<int>();
            foreach (var value in Encoding.UTF8.GetBytes(character))
            {
                if (!_vocabulary.TryGetValue($"<0x{value:X2}>", out var id))
                {
                    return false;
                }
                ids.Add(id);
            }
            return true;
        }
    }
}
