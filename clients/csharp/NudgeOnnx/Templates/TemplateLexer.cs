using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace NudgeOnnx.Templates
{
    /// <summary>What a token of a template is.</summary>
    internal enum TokenKind
    {
        /// <summary>Text outside of tags.</summary>
        Data,

        /// <summary><c>{{</c>.</summary>
        PrintBegin,

        /// <summary><c>}}</c>.</summary>
        PrintEnd,

        /// <summary><c>{%</c>.</summary>
        BlockBegin,

        /// <summary><c>%}</c>.</summary>
        BlockEnd,

        /// <summary>A name or keyword.</summary>
        Name,

        /// <summary>A text in quotes.</summary>
        Text,

        /// <summary>A whole number.</summary>
        Integer,

        /// <summary>A number with a fraction.</summary>
        Float,

        /// <summary>An operator or bracket.</summary>
        Operator,

        /// <summary>The end of the template.</summary>
        End,
    }

    /// <summary>A token of a template, with its text.</summary>
    internal readonly struct TemplateToken
    {
        internal TemplateToken(TokenKind kind, string text)
        {
            Kind = kind;
            Text = text;
        }

        internal TokenKind Kind { get; }

        internal string Text { get; }
    }

    /// <summary>
    /// Cuts a Jinja template into tokens, with <c>trim_blocks</c> and <c>lstrip_blocks</c> on: the newline after a block
    /// and the blanks of its line before it are no output.
    /// </summary>
    internal sealed class TemplateLexer
    {
        private static readonly string[] Operators =
        {
            "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}",
            ">", "<", "=", ".", ":", "|", ",", ";",
        };

        private readonly string _source;
        private readonly List<TemplateToken> _tokens = new List<TemplateToken>();
        private int _at;
        private bool _lineStarts = true;

        private TemplateLexer(string source)
        {
            source = source.Replace("\r\n", "\n").Replace('\r', '\n');
            // Like Jinja: one newline at the end of a template is not part of it.
            _source = source.EndsWith("\n", StringComparison.Ordinal) ? source.Substring(0, source.Length - 1) : source;
        }

        /// <summary>The tokens of <paramref name="source"/>, the last one of kind <see cref="TokenKind.End"/>.</summary>
        /// <exception cref="TemplateException">The template is not closed or has a character out of place.</exception>
        internal static List<TemplateToken> Cut(string source)
        {
            var lexer = new TemplateLexer(source);
            while (lexer._at < lexer._source.Length)
            {
                lexer.Next();
            }
            lexer.Add(TokenKind.End, "");
            return lexer._tokens;
        }

        private void Add(TokenKind kind, string text) => _tokens.Add(new TemplateToken(kind, text));

        /// <summary>Text up to the next tag, and that tag.</summary>
        private void Next()
        {
            var open = FindTag(_at);
            if (open < 0)
            {
                Add(TokenKind.Data, _source.Substring(_at));
                _at = _source.Length;
                return;
            }
            var kind = _source[open + 1];
            var sign = open + 2 < _source.Length ? _source[open + 2] : ' ';
            var data = _source.Substring(_at, open - _at);
            if (sign == '-')
            {
                data = Text.Blanks.TrimEnd(data);
            }
            else if (sign != '+' && kind != '{')
            {
                data = WithoutIndent(data);
            }
            if (data.Length > 0)
            {
                Add(TokenKind.Data, data);
            }
            _at = open + 2 + (sign == '-' || (sign == '+' && kind != '{') ? 1 : 0);
            if (kind == '#')
            {
                Comment();
            }
            else
            {
                Tag(kind == '{');
            }
            _lineStarts = _source[_at - 1] == '\n';
        }

        private int FindTag(int from)
        {
            for (var open = _source.IndexOf('{', from); open >= 0; open = _source.IndexOf('{', open + 1))
            {
                if (open + 1 < _source.Length && "{%#".IndexOf(_source[open + 1]) >= 0)
                {
                    return open;
                }
            }
            return -1;
        }

        private string WithoutIndent(string data)
        {
            var line = data.LastIndexOf('\n') + 1;
            if (line == 0 && !_lineStarts)
            {
                return data;
            }
            return Text.Blanks.TrimStart(data.Substring(line)).Length == 0 ? data.Substring(0, line) : data;
        }

        private void Comment()
        {
            var close = _source.IndexOf("#}", _at, StringComparison.Ordinal);
            if (close < 0)
            {
                throw new TemplateException("a comment of the prompt template is not closed");
            }
            var sign = close > _at ? _source[close - 1] : ' ';
            _at = close + 2;
            AfterTag(sign, trim: true);
        }

        private void Tag(bool prints)
        {
            var end = prints ? "}}" : "%}";
            Add(prints ? TokenKind.PrintBegin : TokenKind.BlockBegin, "");
            var depth = 0;
            while (true)
            {
                while (_at < _source.Length && Text.Blanks.IsBlank(_source[_at]))
                {
                    _at++;
                }
                if (_at >= _source.Length)
                {
                    throw new TemplateException($"a tag of the prompt template is not closed, {end} is missing");
                }
                var sign = _source[_at] == '-' || (_source[_at] == '+' && !prints) ? _source[_at] : ' ';
                var signs = sign == ' ' ? 0 : 1;
                // Inside brackets }} closes two of them.
                if (depth == 0 && string.CompareOrdinal(_source, _at + signs, end, 0, 2) == 0)
                {
                    _at += signs + 2;
                    Add(prints ? TokenKind.PrintEnd : TokenKind.BlockEnd, "");
                    AfterTag(sign, trim: !prints);
                    return;
                }
                depth += Token();
            }
        }

        /// <summary>Skip what a tag's end swallows: everything blank after <c>-</c>, else one newline after a block.</summary>
        private void AfterTag(char sign, bool trim)
        {
            if (sign == '-')
            {
                while (_at < _source.Length && Text.Blanks.IsBlank(_source[_at]))
                {
                    _at++;
                }
            }
            else if (trim && sign != '+' && _at < _source.Length && _source[_at] == '\n')
            {
                _at++;
            }
        }

        /// <summary>Read one token; returns by how much it opens or closes brackets.</summary>
        private int Token()
        {
            var first = _source[_at];
            if (first == '\'' || first == '"')
            {
                Add(TokenKind.Text, Quoted(first));
                return 0;
            }
            if (char.IsLetter(first) || first == '_')
            {
                Add(TokenKind.Name, While(character => char.IsLetterOrDigit(character) || character == '_'));
                return 0;
            }
            if (first >= '0' && first <= '9')
            {
                Number();
                return 0;
            }
            foreach (var symbol in Operators)
            {
                if (string.CompareOrdinal(_source, _at, symbol, 0, symbol.Length) == 0)
                {
                    _at += symbol.Length;
                    Add(TokenKind.Operator, symbol);
                    return symbol switch { "(" or "[" or "{" => 1, ")" or "]" or "}" => -1, _ => 0 };
                }
            }
            throw new TemplateException($"the prompt template has a '{first}' inside a tag, which is not supported");
        }

        private string While(Func<char, bool> belongs)
        {
            var start = _at;
            while (_at < _source.Length && belongs(_source[_at]))
            {
                _at++;
            }
            return _source.Substring(start, _at - start);
        }

        private void Number()
        {
            var whole = While(char.IsDigit);
            if (_at + 1 < _source.Length && _source[_at] == '.' && char.IsDigit(_source[_at + 1]))
            {
                _at++;
                Add(TokenKind.Float, whole + "." + While(char.IsDigit));
                return;
            }
            Add(TokenKind.Integer, whole);
        }

        private string Quoted(char quote)
        {
            var text = new StringBuilder();
            for (_at++; _at < _source.Length && _source[_at] != quote; _at++)
            {
                text.Append(_source[_at] == '\\' ? Escaped() : _source[_at].ToString());
            }
            if (_at >= _source.Length)
            {
                throw new TemplateException("a text of the prompt template is not closed");
            }
            _at++;
            return text.ToString();
        }

        /// <summary>The character that an escape stands for; an unknown escape stands for itself, like in Python.</summary>
        private string Escaped()
        {
            _at++;
            if (_at >= _source.Length)
            {
                throw new TemplateException("a text of the prompt template is not closed");
            }
            var kind = _source[_at];
            switch (kind)
            {
                case 'n': return "\n";
                case 't': return "\t";
                case 'r': return "\r";
                case 'a': return "\a";
                case 'b': return "\b";
                case 'f': return "\f";
                case 'v': return "\v";
                case '\n': return "";
                case '\\':
                case '\'':
                case '"':
                    return kind.ToString();
                case 'x': return Hexadecimal(2);
                case 'u': return Hexadecimal(4);
                case 'U': return Hexadecimal(8);
                default: return "\\" + kind;
            }
        }

        private string Hexadecimal(int digits)
        {
            if (_at + digits >= _source.Length || !int.TryParse(
                _source.Substring(_at + 1, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var code))
            {
                throw new TemplateException("a text of the prompt template has a broken escape");
            }
            _at += digits;
            return code > 0xFFFF ? char.ConvertFromUtf32(code) : ((char)code).ToString();
        }
    }
}
