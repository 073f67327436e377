using System.Collections.Generic;

namespace NudgeOnnx
{
    /// <summary>Which model wrote a piece.</summary>
    public enum Source
    {
        /// <summary>The base model.</summary>
        Base,

        /// <summary>The nudging model.</summary>
        Nudge,
    }

    /// <summary>
    /// A stretch of the answer by one model: one token of the base model, or the accepted part of one draft. Its text
    /// never holds half a character.
    /// </summary>
    /// <param name="Text">The text.</param>
    /// <param name="Source">Who wrote it.</param>
    /// <param name="TokenIds">Ids of the model named by <paramref name="Source"/>.</param>
    /// <param name="Top1">
    /// One entry a token: the largest probability of that model's softmax where it chose the token, or <c>null</c> where
    /// the draft was cut inside a token.
    /// </param>
    public sealed record Piece(string Text, Source Source, IReadOnlyList<int> TokenIds, IReadOnlyList<double?> Top1);
}
