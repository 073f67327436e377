using System;

namespace NudgeOnnx
{
    /// <summary>Root of every exception that this library throws on purpose. Each message is one line.</summary>
    public class NudgeException : Exception
    {
        /// <summary>An exception with a message: what is wrong, then what to do.</summary>
        public NudgeException(string message) : base(message)
        {
        }
    }

    /// <summary>A folder is no bundle, or one that is damaged, unsafe, or of a newer format.</summary>
    public class BundleException : NudgeException
    {
        /// <inheritdoc cref="NudgeException(string)"/>
        public BundleException(string message) : base(message)
        {
        }
    }

    /// <summary>A prompt template failed, refused the conversation, or uses a construct that is not supported.</summary>
    public sealed class TemplateException : BundleException
    {
        /// <inheritdoc cref="NudgeException(string)"/>
        public TemplateException(string message) : base(message)
        {
        }
    }

    /// <summary>An execution provider was asked for that this machine or this build does not have.</summary>
    public sealed class ProviderException : NudgeException
    {
        /// <inheritdoc cref="NudgeException(string)"/>
        public ProviderException(string message) : base(message)
        {
        }
    }

    /// <summary>A prompt leaves no room for an answer in a model's context.</summary>
    public sealed class ContextLengthException : NudgeException
    {
        /// <inheritdoc cref="NudgeException(string)"/>
        public ContextLengthException(string message) : base(message)
        {
        }
    }

    /// <summary>A model returned NaN, or no finite logit, for a position.</summary>
    public sealed class LogitsException : NudgeException
    {
        /// <inheritdoc cref="NudgeException(string)"/>
        public LogitsException(string message) : base(message)
        {
        }

        /// <summary>The exception for a row that holds no probabilities.</summary>
        internal LogitsException(string model, float value)
            : this($"the {model} model returned {value} logits; its graph or its precision is broken, export it again")
        {
        }
    }
}
