using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;

namespace NudgeOnnx.Text
{
    /// <summary>The ids of a prompt, and where its last special token ends.</summary>
    internal readonly struct PromptEncoding
    {
        internal PromptEncoding(List<int> ids, List<(int Start, int End)> spans, int fixedIds, int fixedCharacters)
        {
            Ids = ids;
            Spans = spans;
            FixedIds = fixedIds;
            FixedCharacters = fixedCharacters;
        }

        internal List<int> Ids { get; }

        /// <summary>The UTF-16 units of the text that each id stands for; none for what is put before it.</summary>
        internal List<(int Start, int End)> Spans { get; }

        /// <summary>How many ids there are up to the last special token, that one included.</summary>
        internal int FixedIds { get; }

        /// <summary>How many UTF-16 units of the prompt's text they stand for.</summary>
        internal int FixedCharacters { get; }
    }

    /// <summary>
    /// Text to ids and ids to bytes, for one model. Special tokens are recognised in prompts only: in an answer, text
    /// that looks like one is text. Safe for several threads.
    /// </summary>
    internal sealed class Tokenizer
    {
        private readonly Normalizer _normalizer;
        private readonly PreTokenizer _preTokenizer;
        private readonly BytePairs _bytePairs;
        private readonly AddedTokens _verbatim;
        private readonly AddedTokens _normalized;
        private readonly int[] _prefix;
        private readonly bool _byteLevel;
        private readonly byte[][] _bytes;

        private Tokenizer(string name, JsonElement root)
        {
            var model = root.GetProperty("model");
            if (TokenizerFile.TextOrNull(model, "type") is { } kind && kind != "BPE")
            {
                throw new BundleException($"the tokenizer model {kind} is not supported by this library; only BPE is");
            }
            foreach (var affix in new[] { "continuing_subword_prefix", "end_of_word_suffix" })
            {
                if (!string.IsNullOrEmpty(TokenizerFile.TextOrNull(model, affix)))
                {
                    throw new BundleException($"the {affix} of a tokenizer is not supported by this library");
                }
            }
            var vocabulary = new Dictionary<string, int>(StringComparer.Ordinal);
            foreach (var entry in model.GetProperty("vocab").EnumerateObject())
            {
                vocabulary[entry.Name] = entry.Value.GetInt32();
            }
            var added = root.GetProperty("added_tokens").EnumerateArray().Select(AddedToken.Read).ToList();
            _normalizer = new Normalizer(TokenizerFile.Part(root, "normalizer"));
            _preTokenizer = new PreTokenizer(TokenizerFile.Part(root, "pre_tokenizer"));
            _bytePairs = new BytePairs(
                vocabulary,
                TokenizerFile.Merges(model),
                new BytePairOptions(
                    _preTokenizer.ByteLevel,
                    TokenizerFile.Flag(model, "byte_fallback", false),
                    TokenizerFile.Flag(model, "ignore_merges", false),
                    TokenizerFile.TextOrNull(model, "unk_token"),
                    TokenizerFile.Flag(model, "fuse_unk", false)));
            _verbatim = new AddedTokens(added.Where(token => !token.Normalized).Select(token => (token.Content, token)));
            _normalized = new AddedTokens(
                added.Where(token => token.Normalized).Select(token => (_normalizer.Normalize(token.Content), token)));
            _prefix = TokenizerFile.Prefix(TokenizerFile.Part(root, "post_processor"));
            _byteLevel = IsByteLevel(name, TokenizerFile.Part(root, "decoder"));
            _bytes = BytesOfAll(vocabulary, added, _byteLevel);
            SpecialTokens = added.Where(token => token.Special).Select(token => token.Content).Distinct().ToList();
            Lead = BytesOf(Encode("a").Take(1)).Take(1).SequenceEqual(new[] { (byte)' ' }) ? "\n" : "";
        }

        /// <summary>Read a <c>tokenizer.json</c>.</summary>
        /// <exception cref="BundleException">It cannot be read, or has a part that is not supported.</exception>
        internal static Tokenizer Open(string path)
        {
            using var document = TokenizerFile.Open(path);
            try
            {
                return new Tokenizer(Path.GetFileName(path), document.RootElement);
            }
            catch (Exception error) when (error is KeyNotFoundException or InvalidOperationException
                or FormatException or ArgumentException or IndexOutOfRangeException)
            {
                throw TokenizerFile.Unreadable(path, error);
            }
        }

        /// <summary>What to encode before a text that does not start a string; empty where the start of one gets no mark.</summary>
        internal string Lead { get; }

        /// <summary>Ids of plain text: no prefix is added, and nothing in it is special.</summary>
        internal List<int> Encode(string text)
        {
            var ids = new List<int>();
            Encode(text, false, ids, null, (_, _) => { });
            return ids;
        }

        /// <summary>
        /// Ids of plain text inside a longer one: the space that many tokenizers put at the start of a string is not.
        /// </summary>
        internal List<int> EncodeInside(string text) => Encode(Lead + text).Skip(Encode(Lead).Count).ToList();

        /// <summary>
        /// Ids of a prompt, in which special tokens are recognised. <paramref name="addPrefix"/> puts what the
        /// post-processor adds (usually BOS) before them. What is <paramref name="hidden"/> is no special token.
        /// </summary>
        internal PromptEncoding EncodePrompt(string text, bool addPrefix, HiddenTokens? hidden = null)
        {
            var found = Recognised(text);
            if (hidden != null && hidden.AreIn(text))
            {
                found = Uncovered(text, found, hidden);
            }
            var prefix = addPrefix ? _prefix : Array.Empty<int>();
            var (ids, spans) = (prefix.ToList(), prefix.Select(_ => (0, 0)).ToList());
            ids.AddRange(found.Ids);
            spans.AddRange(found.Spans);
            var last = found.Specials.Count > 0 ? found.Specials[found.Specials.Count - 1] : -1;
            return new PromptEncoding(ids, spans, prefix.Length + last + 1, last < 0 ? 0 : found.Spans[last].End);
        }

        /// <summary>Where a prompt's text would be read as special tokens.</summary>
        internal List<(int Start, int End)> SpecialSpans(string text)
        {
            var found = Recognised(text);
            return found.Specials.Select(place => found.Spans[place]).ToList();
        }

        /// <summary>What special tokens are spelled like.</summary>
        internal IReadOnlyCollection<string> SpecialTokens { get; }

        /// <summary>The UTF-8 bytes that a token stands for; none for a special token or an id beyond the vocabulary.</summary>
        internal byte[] BytesOf(int id) => id >= 0 && id < _bytes.Length ? _bytes[id] : Array.Empty<byte>();

        /// <summary>The bytes of several tokens.</summary>
        internal byte[] BytesOf(IEnumerable<int> ids) => ids.SelectMany(BytesOf).ToArray();

        /// <summary>The text of several tokens, with U+FFFD also for a character that they only begin.</summary>
        internal string TextOf(IEnumerable<int> ids)
        {
            var text = Utf8Text.Decode(BytesOf(ids), out var pending);
            return pending > 0 ? text + "\uFFFD" : text;
        }

        /// <summary>The text of several tokens, without a character that they only begin.</summary>
        internal string CompleteTextOf(IEnumerable<int> ids) => Utf8Text.Decode(BytesOf(ids), out _);

        /// <summary>Ids and their characters, and which of them are special tokens.</summary>
        private (List<int> Ids, List<(int Start, int End)> Spans, List<int> Specials) Recognised(string text)
        {
            var (ids, spans, specials) = (new List<int>(), new List<(int Start, int End)>(), new List<int>());
            Encode(text, true, ids, spans, (token, _) =>
            {
                if (token.Special)
                {
                    specials.Add(ids.Count - 1);
                }
            });
            return (ids, spans, specials);
        }

        /// <summary>The ids with what is between two special tokens read anew as plain text, where something in it is hidden.</summary>
        private (List<int> Ids, List<(int Start, int End)> Spans, List<int> Specials) Uncovered(
            string text, (List<int> Ids, List<(int Start, int End)> Spans, List<int> Specials) found, HiddenTokens hidden)
        {
            var (ids, spans, specials) = (new List<int>(), new List<(int Start, int End)>(), new List<int>());
            var (first, start) = (0, 0);
            foreach (var place in found.Specials.Append(found.Ids.Count))
            {
                var isSpecial = place < found.Ids.Count;
                var part = text.Substring(start, (isSpecial ? found.Spans[place].Start : text.Length) - start);
                if (hidden.AreIn(part))
                {
                    var lead = start == 0 || !MarksTheStart() ? "" : "\n";
                    var (inner, innerSpans) = (new List<int>(), new List<(int Start, int End)>());
                    Encode(lead + hidden.Shown(part), false, inner, innerSpans, (_, _) => { });
                    var skipped = lead.Length > 0 ? Encode(lead).Count : 0;
                    var shift = start - lead.Length;
                    ids.AddRange(inner.Skip(skipped));
                    spans.AddRange(innerSpans.Skip(skipped).Select(span => (Math.Max(span.Start + shift, start), span.End + shift)));
                }
                else
                {
                    ids.AddRange(found.Ids.Skip(first).Take(place - first));
                    spans.AddRange(found.Spans.Skip(first).Take(place - first));
                }
                if (isSpecial)
                {
                    specials.Add(ids.Count);
                    ids.Add(found.Ids[place]);
                    spans.Add(found.Spans[place]);
                    (first, start) = (place + 1, found.Spans[place].End);
                }
            }
            return (ids, spans, specials);
        }

        /// <summary>Whether a text alone has other ids than behind a special token.</summary>
        private bool MarksTheStart()
        {
            var behind = Recognised(SpecialTokens.OrderBy(token => token, StringComparer.Ordinal).First() + "a").Ids;
            return !behind.Skip(1).SequenceEqual(Encode("a"));
        }

        /// <summary>
        /// Add the ids of a text, and the characters of each where <paramref name="spans"/> are wanted;
        /// <paramref name="found"/> hears of each added token and where it ends.
        /// </summary>
        private void Encode(
            string text, bool special, List<int> ids, List<(int Start, int End)>? spans, Action<AddedToken, int> found)
        {
            foreach (var stretch in _verbatim.Find(text, special))
            {
                if (stretch.Token != null)
                {
                    ids.Add(stretch.Token.Id);
                    spans?.Add((stretch.From, stretch.To));
                    found(stretch.Token, stretch.To);
                    continue;
                }
                var plain = text.Substring(stretch.From, stretch.To - stretch.From);
                var changed = _normalizer.Normalize(plain);
                foreach (var part in _normalized.Find(changed, special))
                {
                    if (part.Token == null)
                    {
                        EncodePart(changed.Substring(part.From, part.To - part.From), stretch.From + part.From == 0, ids);
                        continue;
                    }
                    ids.Add(part.Token.Id);
                    if (part.Token.Special && changed != plain)
                    {
                        // Where it ends in the text as it was is not known.
                        throw new BundleException(
                            $"the special token {part.Token.Content} is looked for in changed text, "
                            + "which this library does not support");
                    }
                    found(part.Token, stretch.From + part.To);
                }
                if (spans != null)
                {
                    spans.AddRange(Spans(plain, ids.Skip(spans.Count)).Select(
                        span => (span.Start + stretch.From, span.End + stretch.From)));
                }
            }
        }

        /// <summary>
        /// The UTF-16 units of a text that each of its ids stands for, by the bytes that they write; all of them, where the
        /// ids write another text.
        /// </summary>
        private IEnumerable<(int Start, int End)> Spans(string text, IEnumerable<int> ids)
        {
            var written = ids.Select(id => BytesOf(id).Length).ToList();
            // The place in the text of each byte of it, and of its end.
            var places = new List<int>();
            for (int at = 0, length; at < text.Length; at += length)
            {
                length = CodePoints.LengthAt(text, at);
                // SentencePiece reads its own mark of a blank as a blank.
                var bytes = !_byteLevel && text[at] == '\u2581' ? 1 : Encoding.UTF8.GetByteCount(text.Substring(at, length));
                places.AddRange(Enumerable.Repeat(at, bytes));
            }
            places.Add(text.Length);
            var marks = written.Sum() - (places.Count - 1); // a blank that marks the start
            if (marks is < 0 or > 1)
            {
                return written.Select(_ => (0, text.Length));
            }
            var spans = new List<(int, int)>();
            var from = -marks;
            foreach (var length in written)
            {
                var to = from + length;
                var last = places[Math.Max(0, to - 1)];
                spans.Add((places[Math.Max(0, from)], to > 0 ? last + CodePoints.LengthAt(text, last) : 0));
                from = to;
            }
            return spans;
        }

        private void EncodePart(string text, bool first, List<int> ids)
        {
            foreach (var word in _preTokenizer.Split(text, first))
            {
                _bytePairs.Encode(word, ids);
            }
        }

        private static bool IsByteLevel(string name, JsonElement decoder)
        {
            var kinds = TokenizerFile.Steps(decoder, "decoders").Select(TokenizerFile.Kind).ToList();
            if (kinds.Contains("ByteLevel"))
            {
                return true;
            }
            if (kinds.Any(kind => kind is "ByteFallback" or "Replace" or "Metaspace"))
            {
                return false;
            }
            throw new BundleException(
                $"{name} decodes with {(kinds.Count == 0 ? "nothing" : kinds[0])}; "
                + "only byte-level and SentencePiece-style BPE are supported");
        }

        private static byte[][] BytesOfAll(Dictionary<string, int> vocabulary, List<AddedToken> added, bool byteLevel)
        {
            var most = vocabulary.Values.Concat(added.Select(token => token.Id)).DefaultIfEmpty(-1).Max();
            var bytes = new byte[most + 1][];
            foreach (var (token, id) in vocabulary.Select(entry => (entry.Key, entry.Value)))
            {
                bytes[id] = byteLevel ? ByteAlphabet.BytesOf(token) ?? Encoding.UTF8.GetBytes(token) : Spelt(token);
            }
            foreach (var token in added)
            {
                bytes[token.Id] = token.Special ? Array.Empty<byte>()
                    : byteLevel ? Encoding.UTF8.GetBytes(token.Content)
                    : Spelt(token.Content);
            }
            return bytes.Select(one => one ?? Array.Empty<byte>()).ToArray();
        }

        /// <summary>The bytes of a SentencePiece-style token.</summary>
        private static byte[] Spelt(string token) =>
            token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
                ? new[] { Convert.ToByte(token.Substring(3, 2), 16) }
                : Encoding.UTF8.GetBytes(token.Replace('\u2581', ' '));
    }
}
