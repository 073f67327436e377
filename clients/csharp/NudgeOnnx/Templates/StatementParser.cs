using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx.Templates
{
    /// <summary>Reads the statements of a template.</summary>
    internal sealed class StatementParser
    {
        private readonly TokenReader _tokens;
        private readonly ExpressionParser _expressions;

        internal StatementParser(string template)
        {
            _tokens = new TokenReader(TemplateLexer.Cut(template));
            _expressions = new ExpressionParser(_tokens);
        }

        /// <summary>The whole template.</summary>
        internal List<Statement> Template()
        {
            var body = Body();
            return _tokens.Is(TokenKind.End) ? body : throw _tokens.Unexpected("the end");
        }

        /// <summary>Statements up to the end, or up to a tag named in <paramref name="ends"/>, whose name is taken too.</summary>
        private List<Statement> Body(params string[] ends)
        {
            var body = new List<Statement>();
            while (!_tokens.Is(TokenKind.End))
            {
                if (_tokens.Is(TokenKind.Data))
                {
                    body.Add(new Data(_tokens.Take()));
                }
                else if (_tokens.Is(TokenKind.PrintBegin))
                {
                    _tokens.Take();
                    body.Add(new Print(_expressions.Parse()));
                    _tokens.Take(TokenKind.PrintEnd);
                }
                else
                {
                    _tokens.Take(TokenKind.BlockBegin);
                    if (_tokens.Is(TokenKind.Name) && ends.Contains(_tokens.Current.Text))
                    {
                        return body;
                    }
                    body.Add(Block());
                }
            }
            return ends.Length == 0 ? body : throw _tokens.Unexpected($"'{ends[ends.Length - 1]}'");
        }

        private Statement Block()
        {
            var name = _tokens.Take(TokenKind.Name);
            return name switch
            {
                "if" => If(),
                "for" => For(),
                "set" => Set(),
                "generation" => Generation(),
                "break" => Leave(Flow.Break),
                "continue" => Leave(Flow.Continue),
                _ => throw new TemplateException($"the prompt template has a '{name}' block, which is not supported"),
            };
        }

        private Statement If()
        {
            var branches = new List<(Expression, List<Statement>)>();
            do
            {
                var condition = _expressions.Parse();
                CloseTag();
                branches.Add((condition, Body("elif", "else", "endif")));
            }
            while (_tokens.TakeName("elif"));
            var otherwise = Otherwise("endif");
            return new If(branches, otherwise);
        }

        private Statement For()
        {
            var names = new List<string> { _tokens.Take(TokenKind.Name) };
            while (_tokens.TakeOperator(","))
            {
                names.Add(_tokens.Take(TokenKind.Name));
            }
            _tokens.Need("in");
            var items = _expressions.Parse(inlineIf: false);
            var condition = _tokens.TakeName("if") ? _expressions.Parse() : null;
            if (_tokens.IsName("recursive"))
            {
                throw new TemplateException("the prompt template has a recursive loop, which is not supported");
            }
            CloseTag();
            var body = Body("else", "endfor");
            return new For(names, items, condition, body, Otherwise("endfor"));
        }

        /// <summary>What stands after an <c>else</c>, if there is one, up to the end tag, which is taken.</summary>
        private List<Statement> Otherwise(string end)
        {
            var otherwise = new List<Statement>();
            if (_tokens.TakeName("else"))
            {
                CloseTag();
                otherwise = Body(end);
            }
            _tokens.Need(end);
            CloseTag();
            return otherwise;
        }

        private Statement Generation()
        {
            CloseTag();
            var body = Body("endgeneration");
            _tokens.Need("endgeneration");
            CloseTag();
            return new Generation(body);
        }

        private Statement Leave(Flow flow)
        {
            CloseTag();
            return new Leave(flow);
        }

        private Statement Set()
        {
            var name = _tokens.Take(TokenKind.Name);
            var attribute = _tokens.TakeOperator(".") ? _tokens.Take(TokenKind.Name) : null;
            if (!_tokens.TakeOperator("="))
            {
                throw new TemplateException("the prompt template has a 'set' block without =, which is not supported");
            }
            var value = _expressions.Parse();
            CloseTag();
            return new Set(name, attribute, value);
        }

        private void CloseTag() => _tokens.Take(TokenKind.BlockEnd);
    }
}
