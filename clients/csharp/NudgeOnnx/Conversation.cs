using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx
{
    /// <summary>The messages that a prompt template sees.</summary>
    internal static class Conversation
    {
        private static readonly string[] Roles = { "system", "user", "assistant" };

        /// <summary>
        /// The messages as they were given, behind a system prompt if they hold none. That may be empty: then templates see an
        /// empty system message, where one may have a text of its own otherwise; <c>null</c> is none.
        /// </summary>
        /// <exception cref="NudgeException">No message, one without role or content, or text that is not Unicode.</exception>
        internal static List<Message> Checked(IEnumerable<Message> messages, string? systemPrompt)
        {
            var turns = messages.ToList();
            for (var number = 1; number <= turns.Count; number++)
            {
                var message = turns[number - 1];
                if (message?.Content is null)
                {
                    throw new NudgeException("a message must have a role and a content");
                }
                if (!Roles.Contains(message.Role))
                {
                    throw new NudgeException($"unknown role '{message.Role}'; use one of {string.Join(", ", Roles)}");
                }
                CheckUnicode(message.Content, $"message {number}");
            }
            if (turns.All(message => message.Role == "system"))
            {
                throw new NudgeException("the conversation has no message; give at least one of role user");
            }
            if (systemPrompt != null && turns.All(message => message.Role != "system"))
            {
                CheckUnicode(systemPrompt, "the system prompt");
                turns.Insert(0, new Message("system", systemPrompt));
            }
            return turns;
        }

        /// <summary>Refuse a lone surrogate in what <paramref name="name"/> says the text is.</summary>
        internal static void CheckUnicode(string text, string name)
        {
            for (var at = 0; at < text.Length; at++)
            {
                if (at + 1 < text.Length && char.IsSurrogatePair(text[at], text[at + 1]))
                {
                    at++;
                }
                else if (char.IsSurrogate(text[at]))
                {
                    throw new NudgeException(
                        $"{name} is not Unicode text: character {at + 1} is \\u{(int)text[at]:x4}, a lone surrogate");
                }
            }
        }
    }
}
