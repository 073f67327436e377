using System;
using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Text;

namespace NudgeOnnx.Decoding
{
    /// <summary>Ends an answer before the first stop text; a stream never shows the beginning of one.</summary>
    internal sealed class StopTexts : IPieces
    {
        private readonly IPieces _pieces;
        private readonly IReadOnlyList<string> _stops;
        private readonly Func<Source, Tokenizer> _tokenizerOf;
        private bool _found;

        internal StopTexts(IPieces pieces, IReadOnlyList<string> stops, Func<Source, Tokenizer> tokenizerOf)
        {
            _pieces = pieces;
            _stops = stops;
            _tokenizerOf = tokenizerOf;
        }

        /// <inheritdoc/>
        public FinishReason Finish => _found ? FinishReason.Stop : _pieces.Finish;

        /// <inheritdoc/>
        public IEnumerable<Piece> Run()
        {
            var waiting = new List<Piece>();
            foreach (var piece in _pieces.Run())
            {
                waiting.Add(piece);
                var text = string.Concat(waiting.Select(held => held.Text));
                var at = _stops.Select(stop => text.IndexOf(stop, StringComparison.Ordinal))
                    .Where(place => place >= 0).DefaultIfEmpty(-1).Min();
                if (at >= 0)
                {
                    _found = true;
                    foreach (var kept in Before(waiting, at))
                    {
                        yield return kept;
                    }
                    yield break;
                }
                var safe = text.Length - Begun(text);
                while (waiting.Count > 0 && waiting[0].Text.Length <= safe)
                {
                    safe -= waiting[0].Text.Length;
                    yield return waiting[0];
                    waiting.RemoveAt(0);
                }
            }
            foreach (var piece in waiting)
            {
                yield return piece;
            }
        }

        /// <summary>Length of the longest end of a text that begins a stop text.</summary>
        private int Begun(string text) => _stops
            .SelectMany(stop => Enumerable.Range(1, Math.Max(0, Math.Min(stop.Length - 1, text.Length)))
                .Where(length => text.EndsWith(stop.Substring(0, length), StringComparison.Ordinal)))
            .DefaultIfEmpty(0)
            .Max();

        /// <summary>The first <paramref name="end"/> UTF-16 units of some pieces, with the tokens that it took to write them.</summary>
        private IEnumerable<Piece> Before(List<Piece> pieces, int end)
        {
            foreach (var piece in pieces.TakeWhile(_ => end > 0))
            {
                yield return piece.Text.Length > end ? Shortened(piece, end) : piece;
                end -= piece.Text.Length;
            }
        }

        private Piece Shortened(Piece piece, int end)
        {
            var tokens = 1;
            // Ids of a text that a tokenizer normalises may write less than the text has.
            while (tokens < piece.TokenIds.Count && _tokenizerOf(piece.Source).CompleteTextOf(piece.TokenIds.Take(tokens)).Length < end)
            {
                tokens++;
            }
            return new Piece(
                piece.Text.Substring(0, end),
                piece.Source,
                piece.TokenIds.Take(tokens).ToArray(),
                piece.Top1.Take(tokens).ToArray());
        }
    }
}
