using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using NudgeOnnx.Text;

namespace NudgeOnnx.Decoding
{
    /// <summary>T, the answer so far: one text shared by both models, and its tokens by whoever wrote them.</summary>
    internal sealed class Transcript
    {
        private readonly int _limit;
        private readonly StringBuilder _text = new StringBuilder();
        private readonly List<int> _ids = new List<int>();
        private string? _whole;

        /// <param name="limit">The most tokens it may have.</param>
        internal Transcript(int limit) => _limit = limit;

        internal string Text => _whole ??= _text.ToString();

        /// <summary>Every token in order; the ids of one vocabulary only where both models share it.</summary>
        internal IReadOnlyList<int> Ids => _ids;

        /// <summary>How many more tokens it may have.</summary>
        internal int Room => _limit - _ids.Count;

        internal bool IsFull => Room <= 0;

        /// <summary>Add tokens and their text; what passes the limit is cut off, with its text. Returns what was added.</summary>
        internal Piece Append(
            Source source, IReadOnlyList<int> ids, IReadOnlyList<double?> top1, string text, Tokenizer tokenizer)
        {
            if (ids.Count > Room)
            {
                (ids, top1) = (ids.Take(Room).ToArray(), top1.Take(Room).ToArray());
                // Where the text was spelt anew, a tokenizer that normalises may write another; it stays the text's own.
                text = text.Substring(0, Math.Min(text.Length, Utf8Text.Decode(tokenizer.BytesOf(ids), out _).Length));
            }
            _ids.AddRange(ids);
            _text.Append(text);
            _whole = null;
            return new Piece(text, source, ids, top1);
        }
    }

    /// <summary>Tokens that the base model writes one by one, kept back until they complete a character.</summary>
    internal sealed class OpenTokens
    {
        private readonly Tokenizer _tokenizer;
        private List<int> _ids = new List<int>();
        private List<double?> _top1 = new List<double?>();

        internal OpenTokens(Tokenizer tokenizer) => _tokenizer = tokenizer;

        internal bool IsEmpty => _ids.Count == 0;

        /// <summary>Add a token; what is complete, or reaches the answer's limit, is appended to it and returned.</summary>
        internal Piece? Add(int token, double top1, Transcript answer)
        {
            _ids.Add(token);
            _top1.Add(top1);
            var data = _tokenizer.BytesOf(_ids);
            if (Utf8Text.Open(data) > 0 && _ids.Count < answer.Room)
            {
                return null;
            }
            var piece = answer.Append(Source.Base, _ids, _top1, Utf8Text.Decode(data, out _), _tokenizer);
            (_ids, _top1) = (new List<int>(), new List<double?>());
            return piece;
        }

        /// <summary>Drop a character that will not be completed, with the tokens that wrote nothing else; append the rest.</summary>
        internal Piece? GiveUp(Transcript answer)
        {
            var data = _tokenizer.BytesOf(_ids);
            var begun = Utf8Text.Open(data);
            while (begun > 0 && _tokenizer.BytesOf(_ids[_ids.Count - 1]).Length <= begun)
            {
                begun -= _tokenizer.BytesOf(_ids[_ids.Count - 1]).Length;
                _ids.RemoveAt(_ids.Count - 1);
                _top1.RemoveAt(_top1.Count - 1);
            }
            return _ids.Count == 0
                ? null
                : answer.Append(Source.Base, _ids, _top1, Utf8Text.Decode(data, out _), _tokenizer);
        }
    }
}
