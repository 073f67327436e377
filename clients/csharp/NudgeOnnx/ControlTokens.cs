namespace NudgeOnnx
{
    /// <summary>What happens to messages that spell a special token of a model, such as one that ends a turn.</summary>
    public enum ControlTokens
    {
        /// <summary>It becomes that token in the prompt, as in transformers.</summary>
        Allow,

        /// <summary>It is an error.</summary>
        Refuse,

        /// <summary>It is read as any other text.</summary>
        Escape,
    }
}
