using System.Collections.Generic;

namespace NudgeOnnx
{
    /// <summary>How a bundle is opened.</summary>
    public sealed class LoadOptions
    {
        /// <summary>
        /// Execution providers in order of preference: <c>cpu</c>, <c>cuda</c>, <c>tensorrt</c>, or a full name of ONNX
        /// Runtime.
        /// </summary>
        public IReadOnlyList<string> Providers { get; init; } = new[] { "cpu" };

        /// <summary>Options of providers, by the provider's name as it stands in <see cref="Providers"/>.</summary>
        public IReadOnlyDictionary<string, IReadOnlyDictionary<string, string>> ProviderOptions { get; init; } =
            new Dictionary<string, IReadOnlyDictionary<string, string>>();

        /// <summary>Threads per model; <c>null</c>: the cores.</summary>
        public int? Threads { get; init; }

        /// <summary>
        /// Where it is remembered which passes share bits on this machine; <c>null</c>: the folder that
        /// <c>NUDGE_ONNX_CACHE</c> names, or <c>nudge-onnx</c> among the user's caches.
        /// </summary>
        public string? CacheFolder { get; init; }

        /// <summary>How many conversations keep their KV caches, so that a next turn reads only what is new.</summary>
        public int KeptConversations { get; init; } = 2;
    }
}
