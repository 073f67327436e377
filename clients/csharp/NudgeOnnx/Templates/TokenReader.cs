using System.Collections.Generic;

namespace NudgeOnnx.Templates
{
    /// <summary>Goes through the tokens of a template one by one.</summary>
    internal sealed class TokenReader
    {
        private readonly List<TemplateToken> _tokens;
        private int _at;

        internal TokenReader(List<TemplateToken> tokens) => _tokens = tokens;

        internal TemplateToken Current => _tokens[_at];

        internal TemplateToken Following => _tokens[System.Math.Min(_at + 1, _tokens.Count - 1)];

        internal bool Is(TokenKind kind) => Current.Kind == kind;

        internal bool IsOperator(string symbol) => Is(TokenKind.Operator) && Current.Text == symbol;

        internal bool IsName(string name) => Is(TokenKind.Name) && Current.Text == name;

        internal string Take()
        {
            var text = Current.Text;
            _at += Is(TokenKind.End) ? 0 : 1;
            return text;
        }

        internal string Take(TokenKind kind) => Is(kind) ? Take() : throw Unexpected(kind.ToString());

        internal bool TakeOperator(string symbol) => IsOperator(symbol) && Take() == symbol;

        internal bool TakeName(string name) => IsName(name) && Take() == name;

        internal void Need(string symbol)
        {
            if (!TakeOperator(symbol) && !TakeName(symbol))
            {
                throw Unexpected($"'{symbol}'");
            }
        }

        internal TemplateException Unexpected(string wanted)
        {
            var found = Current.Text.Length > 0 ? $"'{Current.Text}'" : Current.Kind.ToString();
            return new TemplateException($"the prompt template has {found} where {wanted} is expected");
        }
    }
}
