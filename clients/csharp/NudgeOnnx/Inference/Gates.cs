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

        /// <summary>The largest probability leads the nudging model's by at least 2 gamma - 1. The loop asks both models.</summary>
        Bet,
    }

    /// <summary>A gate, its threshold, and what divides the logits that it reads.</summary>
    internal readonly struct GateSetting
    {
        internal GateSetting(Gate gate, double gamma, double temperature = 1)
        {
            Gate = gate;
            Gamma = gamma;
            Temperature = temperature;
        }

        internal Gate Gate { get; }

        internal double Gamma { get; }

        internal double Temperature { get; }
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
            "bet" => Gate.Bet,
            "budget" => throw new NudgeException(
                "gate 'budget' asks how unlikely the token drawn is, and this client draws the likeliest; use another gate"),
            _ => throw new NudgeException($"unknown gate '{name}'; use one of top1, margin, entropy, bet"),
        };

        internal static bool IsCertain(Gate gate, in Softmax softmax, double gamma) => gate switch
        {
            Gate.Margin => softmax.Margin >= gamma,
            Gate.Entropy => softmax.Entropy <= 1 - gamma,
            _ => softmax.Top1 >= gamma,
        };

        /// <summary>What the gate <see cref="Gate.Bet"/> says of what either model would write at one place.</summary>
        internal static bool Bets(Choice baseModel, Choice nudgingModel, double gamma) =>
            baseModel.Top1 - nudgingModel.Top1 >= 2 * gamma - 1;
    }
}
