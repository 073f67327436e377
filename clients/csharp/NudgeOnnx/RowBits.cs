namespace NudgeOnnx
{
    /// <summary>Which passes give a row of logits the same bits, where a model runs.</summary>
    public enum RowBits
    {
        /// <summary>None: each token is read in a pass of its own, and nothing is read ahead.</summary>
        None,

        /// <summary>Those of two rows or more: each pass has two at the least.</summary>
        Pairs,

        /// <summary>Passes of any size.</summary>
        All,
    }
}
