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
        private readonly List<Statement> _body;

        /// <exception cref="TemplateException">The template is broken, or has a construct that is not supported.</exception>
        internal Template(string source)
        {
            _body = new StatementParser(source).Template();
        }

        /// <summary>The prompt's text for a conversation.</summary>
        /// <exception cref="TemplateException">The template refuses it.</exception>
        internal string Render(IEnumerable<Message> messages, IReadOnlyDictionary<string, string> tokens)
        {
            var turns = messages.ToList();
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
                ["add_generation_prompt"] = true,
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
