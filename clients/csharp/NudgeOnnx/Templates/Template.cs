using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace NudgeOnnx.Templates
{
    /// <summary>
    /// A prompt template: the part of Jinja that chat templates use (<c>if</c>, <c>for</c>, <c>set</c>, expressions,
    /// filters, tests). It can reach the names that it is given and nothing else.
    /// </summary>
    internal sealed class Template
    {
        private const int FirstPrivate = 0xF0000;
        private const int LastPrivate = 0xFFFFD;

        private readonly string _source;
        private readonly List<Statement> _body;

        /// <exception cref="TemplateException">The template is broken, or has a construct that is not supported.</exception>
        internal Template(string source)
        {
            _source = source;
            _body = new StatementParser(source).Template();
        }

        /// <summary>
        /// The prompt's text for a conversation. Behind the last message the assistant's turn begins. If that message is the
        /// assistant's, its turn goes on: the text ends with its content, to the last blank.
        /// </summary>
        /// <exception cref="TemplateException">The template refuses it.</exception>
        internal string Render(IEnumerable<Message> messages, IReadOnlyDictionary<string, string> tokens)
        {
            var turns = messages.ToList();
            var last = turns[turns.Count - 1];
            if (last.Role != "assistant")
            {
                return Rendered(turns, tokens, begins: true);
            }
            // Found again behind whatever the template makes of the content; no blank, so that nothing before it is trimmed.
            var mark = Unused(turns.Select(message => message.Content).Concat(tokens.Values).Append(_source).ToList());
            var before = turns.Take(turns.Count - 1).ToList();
            var text = Rendered(before.Append(last with { Content = last.Content + mark }).ToList(), tokens, begins: false);
            var at = text.LastIndexOf(mark, StringComparison.Ordinal);
            return at >= 0
                ? text.Substring(0, at).Replace(mark, "")
                : Rendered(before, tokens, begins: true) + last.Content;
        }

        /// <summary>A character for private use that none of the texts has.</summary>
        private static string Unused(IReadOnlyList<string> texts) =>
            Enumerable.Range(0, LastPrivate - FirstPrivate)
                .Select(step => char.ConvertFromUtf32(LastPrivate - step))
                .First(mark => texts.All(text => text.IndexOf(mark, StringComparison.Ordinal) < 0));

        private string Rendered(IReadOnlyList<Message> turns, IReadOnlyDictionary<string, string> tokens, bool begins)
        {
            using var meter = new Meter(turns.Sum(message => (long)message.Content.Length));
            var scope = new Scope
            {
                ["messages"] = turns.Select(message => (object?)new Dictionary<string, object?>
                {
                    ["role"] = message.Role,
                    ["content"] = message.Content,
                }).ToList(),
                ["tools"] = null,
                ["documents"] = null,
                ["add_generation_prompt"] = begins,
            };
            foreach (var (name, token) in tokens.Select(entry => (entry.Key, entry.Value)))
            {
                scope[name] = token;
            }
            var output = new StringBuilder();
            try
            {
                // In a scope of its own, like the turns of a loop.
                Statement.RunAll(_body, new Scope(scope), output);
            }
            catch (TemplateException error)
            {
                throw new TemplateException($"the prompt template refused the conversation: {error.Message.Split('\n')[0]}");
            }
            return output.ToString();
        }
    }
}
