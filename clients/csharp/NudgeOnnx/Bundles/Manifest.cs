using System.Collections.Generic;

namespace NudgeOnnx.Bundles
{
    /// <summary>The content of <c>nudge.json</c>, as far as a reader needs it.</summary>
    /// <param name="Name">Free text.</param>
    /// <param name="Version">The format's version, <c>1.x</c>.</param>
    /// <param name="Defaults">What a stream uses where its caller says nothing.</param>
    /// <param name="SharedVocabulary">Whether both tokenizers give every text the same ids.</param>
    /// <param name="Models">The models by role: <c>base</c>, <c>nudge</c>, and perhaps <c>proxy_base</c>.</param>
    /// <param name="Files">Size and SHA-256 of every file, by its path.</param>
    public sealed record Manifest(
        string Name,
        string Version,
        Defaults Defaults,
        bool SharedVocabulary,
        IReadOnlyDictionary<string, ModelRecord> Models,
        IReadOnlyDictionary<string, FileRecord> Files);

    /// <summary>What a stream uses where its caller says nothing.</summary>
    /// <param name="Gamma">Nudge where the base model is less certain than this (0 to 1).</param>
    /// <param name="Policy"><c>word</c> or <c>token</c>.</param>
    /// <param name="DraftTokens">The most tokens of one draft.</param>
    /// <param name="Gate"><c>top1</c>, <c>margin</c>, <c>entropy</c>, <c>bet</c> or <c>budget</c>.</param>
    /// <param name="GateTemperature">What divides the logits that the gate reads.</param>
    /// <param name="Tail"><c>draft</c> or <c>lazy</c>.</param>
    /// <param name="SystemPrompt">Instruction for both models, or empty.</param>
    public sealed record Defaults(
        string Policy,
        double Gamma,
        int DraftTokens,
        string Gate,
        double GateTemperature,
        string Tail,
        string SystemPrompt);

    /// <summary>Size in bytes and SHA-256 (lower-case hex) of one file.</summary>
    /// <param name="Bytes">Size in bytes.</param>
    /// <param name="Sha256">Lower-case hex.</param>
    public sealed record FileRecord(long Bytes, string Sha256);

    /// <summary>One model of a bundle. Paths are relative to the bundle, with <c>/</c>.</summary>
    /// <param name="Graph">The ONNX graph.</param>
    /// <param name="Tokenizer">Its <c>tokenizer.json</c>.</param>
    /// <param name="ExternalData">Its weight files.</param>
    /// <param name="Architecture">Information: <c>llama</c>, <c>gemma3_text</c>, ...</param>
    /// <param name="Precision">Information: <c>fp32</c>, <c>int8</c>, ...</param>
    /// <param name="ContextLength">The most positions that the cache may hold.</param>
    /// <param name="VocabularySize">Last dimension of the logits; may exceed the tokenizer's.</param>
    /// <param name="EndTokenIds">A model that chooses one of these wants to end.</param>
    /// <param name="Cache">Shape of the KV cache.</param>
    /// <param name="Io">Names of the graph's inputs and outputs.</param>
    /// <param name="Prompt">How the model is prompted.</param>
    /// <param name="SteadyRows">
    /// Information: where it was exported, a row had the same bits in a pass of any size of fewer than PromptRows.
    /// </param>
    /// <param name="PromptRows">
    /// A pass of so many rows or more is computed in another way, faster and with other last bits; <c>null</c>: none is.
    /// </param>
    /// <param name="Windows">
    /// Sliding windows whose attention reads a copy of the cache's end, far into a text; <c>null</c>: not known.
    /// </param>
    /// <param name="Passes">Information: graph rewrites that were applied.</param>
    /// <param name="Parameters">Information: number of weights; <c>null</c>: not known.</param>
    public sealed record ModelRecord(
        string Graph,
        string Tokenizer,
        IReadOnlyList<string> ExternalData,
        string Architecture,
        string Precision,
        int ContextLength,
        int VocabularySize,
        IReadOnlyList<int> EndTokenIds,
        CacheRecord Cache,
        GraphIo Io,
        PromptRecord Prompt,
        bool SteadyRows,
        int? PromptRows,
        IReadOnlyList<int>? Windows,
        IReadOnlyList<string> Passes,
        long? Parameters);

    /// <summary>Shape of the KV cache: every tensor is <c>[1, KvHeads, positions, HeadSize]</c>.</summary>
    /// <param name="Layers">Layers, each with a key and a value tensor.</param>
    /// <param name="KvHeads">Heads of keys and values.</param>
    /// <param name="HeadSize">Numbers per head and position.</param>
    /// <param name="Dtype"><c>float32</c>, <c>float16</c> or <c>int8</c>.</param>
    /// <param name="Kind"><c>growing</c> or <c>in_place</c>.</param>
    public sealed record CacheRecord(int Layers, int KvHeads, int HeadSize, string Dtype, string Kind);

    /// <summary>Names of inputs and outputs; <c>{layer}</c> runs from 0. <c>null</c>: the graph has no such one.</summary>
    /// <param name="InputIds">int64 <c>[1, n]</c>.</param>
    /// <param name="AttentionMask">int64 <c>[1, past + n]</c>, all ones.</param>
    /// <param name="PositionIds">int64 <c>[1, n]</c>.</param>
    /// <param name="LogitsRows">int64 <c>[rows]</c>: which of the n rows to return logits for.</param>
    /// <param name="Logits">float32 output <c>[1, rows or n, vocabulary]</c>.</param>
    /// <param name="Top1Id">int64 output <c>[1, rows or n]</c>: the first of the largest logits.</param>
    /// <param name="Top1Probability">float32 output, likewise: its softmax; not finite where the logits are broken.</param>
    /// <param name="LogSumExp">float32 output, likewise: logit minus this is a log-probability.</param>
    /// <param name="PastKey">Input, one a layer.</param>
    /// <param name="PastValue">Input, one a layer.</param>
    /// <param name="PresentKey">Output, one a layer.</param>
    /// <param name="PresentValue">Output, one a layer.</param>
    public sealed record GraphIo(
        string InputIds,
        string? AttentionMask,
        string? PositionIds,
        string? LogitsRows,
        string Logits,
        string? Top1Id,
        string? Top1Probability,
        string? LogSumExp,
        string PastKey,
        string PastValue,
        string PresentKey,
        string PresentValue);

    /// <summary>How a model is prompted.</summary>
    /// <param name="Template">A Jinja template over <c>messages</c>, <c>add_generation_prompt</c> and the tokens.</param>
    /// <param name="Tokens">Special tokens that the template may name.</param>
    /// <param name="AddBos">Whether the tokenizer's own prefix comes before the rendered text.</param>
    public sealed record PromptRecord(string Template, IReadOnlyDictionary<string, string> Tokens, bool AddBos);
}
