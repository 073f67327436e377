namespace NudgeOnnx
{
    /// <summary>One message of a conversation.</summary>
    /// <param name="Role"><c>system</c>, <c>user</c> or <c>assistant</c>.</param>
    /// <param name="Content">Its text.</param>
    public sealed record Message(string Role, string Content);
}
