namespace NudgeOnnx.Inference
{
    /// <summary>What certainty means. Each has a threshold scale of its own.</summary>
    internal enum Gate
    {
        /// <summary>The largest probability is at least gamma: the gate of the paper.</summary>
        Top1,

        /// <summary>The largest probability leads the second by at least gamma.</summary>
        Margin,

        /// <summary>The normalised entropy is at most 1 - gamma.</summary>
        Entropy,
    }

    /// <summary>Is a model certain of its next token?</summary>
    internal static class Gates
    {
        /// <summary>A gate by its name in a manifest.</summary>
        /// <exception cref="NudgeException">There is none of this name.</exception>
        internal static Gate Named(string name) => name switch
        {
            "top1" => Gate.Top1,
            "margin" => Gate.Margin,
            "entropy" => Gate.Entropy,
            _ => throw new NudgeException($"unknown gate '{name}'; use one of top1, margin, entropy"),
        };

        internal static bool IsCertain(Gate gate, in Softmax softmax, double gamma) => gate switch
        {
            Gate.Top1 => softmax.Top1 >= gamma,
            Gate.Margin => softmax.Margin >= gamma,
            _ => softmax.Entropy <= 1 - gamma,
        };
    }
}
