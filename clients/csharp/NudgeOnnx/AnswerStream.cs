using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace NudgeOnnx
{
    /// <summary>
    /// An answer on its way: go through it once for its pieces, with <c>foreach</c> or <c>await foreach</c>. To leave early
    /// cancels it. <see cref="Answer"/> has what is there so far.
    /// </summary>
    public sealed class AnswerStream : IEnumerable<Piece>, IAsyncEnumerable<Piece>
    {
        private readonly Func<CancellationToken, Timings, Action<FinishReason>, IEnumerable<Piece>> _write;
        private readonly CancellationToken _cancellation;
        private readonly List<Piece> _pieces = new List<Piece>();
        private readonly Timings _timings = new Timings();
        private FinishReason _finish = FinishReason.Cancelled;
        private string? _error;
        private int _started;

        internal AnswerStream(
            Func<CancellationToken, Timings, Action<FinishReason>, IEnumerable<Piece>> write, CancellationToken cancellation)
        {
            _write = write;
            _cancellation = cancellation;
        }

        /// <summary>The answer so far; its finish reason is <see cref="FinishReason.Cancelled"/> until it has ended.</summary>
        public Answer Answer => new Answer(
            string.Concat(_pieces.Select(piece => piece.Text)), _pieces.ToArray(), _finish, _timings, _error);

        /// <summary>The pieces. An answer can be gone through once.</summary>
        /// <exception cref="InvalidOperationException">It was gone through before.</exception>
        public IEnumerator<Piece> GetEnumerator() => Pieces(_cancellation).GetEnumerator();

        /// <summary>
        /// The pieces, each made on a thread of the pool. Cancelling takes effect before the next pass of a model and
        /// throws <see cref="OperationCanceledException"/>.
        /// </summary>
        /// <exception cref="InvalidOperationException">The answer was gone through before.</exception>
        public async IAsyncEnumerator<Piece> GetAsyncEnumerator(CancellationToken cancellationToken = default)
        {
            using var both = CancellationTokenSource.CreateLinkedTokenSource(_cancellation, cancellationToken);
            using var pieces = Pieces(both.Token).GetEnumerator();
            while (await Task.Run(pieces.MoveNext, both.Token).ConfigureAwait(false))
            {
                yield return pieces.Current;
            }
        }

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

        private IEnumerable<Piece> Pieces(CancellationToken cancellation)
        {
            if (Interlocked.Exchange(ref _started, 1) != 0)
            {
                throw new InvalidOperationException("an answer can be gone through once; ask for another stream");
            }
            using var pieces = _write(cancellation, _timings, reason => _finish = reason).GetEnumerator();
            while (Advance(pieces))
            {
                _pieces.Add(pieces.Current);
                yield return pieces.Current;
            }
        }

        private bool Advance(IEnumerator<Piece> pieces)
        {
            try
            {
                return pieces.MoveNext();
            }
            catch (Exception error) when (error is not OperationCanceledException)
            {
                _finish = FinishReason.Error;
                _error = error.Message.Split('\n')[0];
                throw;
            }
        }
    }
}
