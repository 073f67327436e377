using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx
{
    /// <summary>The messages that a prompt template sees.</summary>
    internal static class Conversation
    {
        private static readonly string[] Roles = { "system", "user", "assistant" };

        /// <summary>The system prompt that holds, as the first message, and the other messages.</summary>
        /// <exception cref="NudgeException">No message, or one without role or content.</exception>
        internal static List<Message> Checked(IEnumerable<Message> messages, string systemPrompt)
        {
            var turns = new List<Message>();
            foreach (var message in messages)
            {
                if (message?.Content is null)
                {
                    throw new NudgeException("a message must have a role and a content");
                }
                if (!Roles.Contains(message.Role))
                {
                    throw new NudgeException($"unknown role '{message.Role}'; use one of {string.Join(", ", Roles)}");
                }
                if (message.Role == "system")
                {
                    systemPrompt = message.Content;
                }
                else
                {
                    turns.Add(message);
                }
            }
            if (turns.Count == 0)
            {
                throw new NudgeException("the conversation has no message; give at least one of role user");
            }
            if (systemPrompt.Length > 0)
            {
                turns.Insert(0, new Message("system", systemPrompt));
            }
            return turns;
        }
    }
}
