using System.Collections.Generic;

namespace NudgeOnnx.Decoding
{
    /// <summary>Something that writes an answer piece by piece.</summary>
    internal interface IPieces
    {
        /// <summary>The pieces, in order; to be gone through once.</summary>
        IEnumerable<Piece> Run();

        /// <summary>Why the answer ended, once it has.</summary>
        FinishReason Finish { get; }
    }
}
