using System.Collections.Generic;
using System.Globalization;

namespace NudgeOnnx.Templates
{
    /// <summary>Reads expressions, by recursive descent in the order of Jinja's precedence.</summary>
    internal sealed class ExpressionParser
    {
        private readonly TokenReader _tokens;

        internal ExpressionParser(TokenReader tokens) => _tokens = tokens;

        /// <summary>An expression; <paramref name="inlineIf"/> off leaves an <c>if</c> after it to the caller.</summary>
        internal Expression Parse(bool inlineIf = true)
        {
            var value = Or();
            while (inlineIf && _tokens.TakeName("if"))
            {
                var condition = Or();
                value = new Conditional(condition, value, _tokens.TakeName("else") ? Parse() : null);
            }
            return value;
        }

        private Expression Or()
        {
            var left = And();
            while (_tokens.TakeName("or"))
            {
                left = new Logical(false, left, And());
            }
            return left;
        }

        private Expression And()
        {
            var left = Negation();
            while (_tokens.TakeName("and"))
            {
                left = new Logical(true, left, Negation());
            }
            return left;
        }

        private Expression Negation() => _tokens.TakeName("not") ? new Not(Negation()) : Compared();

        private Expression Compared()
        {
            var first = Sum();
            var rest = new List<(string, Expression)>();
            while (true)
            {
                if (_tokens.Is(TokenKind.Operator) && _tokens.Current.Text is "==" or "!=" or "<" or "<=" or ">" or ">=")
                {
                    rest.Add((_tokens.Take(), Sum()));
                }
                else if (_tokens.TakeName("in"))
                {
                    rest.Add(("in", Sum()));
                }
                else if (_tokens.IsName("not") && _tokens.Following.Text == "in")
                {
                    _tokens.Take();
                    _tokens.Take();
                    rest.Add(("not in", Sum()));
                }
                else
                {
                    return rest.Count == 0 ? first : new Comparison(first, rest);
                }
            }
        }

        private Expression Sum()
        {
            var left = Joined();
            while (_tokens.IsOperator("+") || _tokens.IsOperator("-"))
            {
                left = new Arithmetic(_tokens.Take(), left, Joined());
            }
            return left;
        }

        private Expression Joined()
        {
            var left = Product();
            while (_tokens.IsOperator("~"))
            {
                left = new Arithmetic(_tokens.Take(), left, Product());
            }
            return left;
        }

        private Expression Product()
        {
            var left = Signed(true);
            while (_tokens.Is(TokenKind.Operator) && _tokens.Current.Text is "*" or "/" or "//" or "%")
            {
                left = new Arithmetic(_tokens.Take(), left, Signed(true));
            }
            return left;
        }

        private Expression Signed(bool filters)
        {
            Expression value;
            if (_tokens.TakeOperator("-"))
            {
                value = new Negative(Signed(false));
            }
            else if (_tokens.TakeOperator("+"))
            {
                value = Signed(false);
            }
            else
            {
                value = Followed(Primary());
            }
            return filters ? FilteredAndTested(value) : value;
        }

        private Expression Primary()
        {
            var token = _tokens.Current;
            switch (token.Kind)
            {
                case TokenKind.Name:
                    _tokens.Take();
                    return token.Text switch
                    {
                        "true" or "True" => new Literal(true),
                        "false" or "False" => new Literal(false),
                        "none" or "None" => new Literal(null),
                        _ => new NameOf(token.Text),
                    };
                case TokenKind.Text:
                    // Texts side by side are one.
                    var text = "";
                    while (_tokens.Is(TokenKind.Text))
                    {
                        text += _tokens.Take();
                    }
                    return new Literal(text);
                case TokenKind.Integer:
                    return new Literal(long.Parse(_tokens.Take(), CultureInfo.InvariantCulture));
                case TokenKind.Float:
                    return new Literal(double.Parse(_tokens.Take(), CultureInfo.InvariantCulture));
                case TokenKind.Operator when token.Text == "(":
                    _tokens.Take();
                    return Parenthesised();
                case TokenKind.Operator when token.Text == "[":
                    _tokens.Take();
                    return new ListOf(Items("]"));
                case TokenKind.Operator when token.Text == "{":
                    _tokens.Take();
                    return Map();
                default:
                    throw _tokens.Unexpected("a value");
            }
        }

        private Expression Parenthesised()
        {
            var value = Parse();
            if (!_tokens.IsOperator(","))
            {
                _tokens.Need(")");
                return value;
            }
            _tokens.Take();
            var items = Items(")");
            items.Insert(0, value);
            return new ListOf(items);
        }

        private List<Expression> Items(string close)
        {
            var items = new List<Expression>();
            while (!_tokens.TakeOperator(close))
            {
                items.Add(Parse());
                if (!_tokens.IsOperator(close))
                {
                    _tokens.Need(",");
                }
            }
            return items;
        }

        private Expression Map()
        {
            var entries = new List<(Expression, Expression)>();
            while (!_tokens.TakeOperator("}"))
            {
                var key = Parse();
                _tokens.Need(":");
                entries.Add((key, Parse()));
                if (!_tokens.IsOperator("}"))
                {
                    _tokens.Need(",");
                }
            }
            return new MapOf(entries);
        }

        /// <summary>A value with the members, subscripts and calls that follow it.</summary>
        private Expression Followed(Expression value)
        {
            while (true)
            {
                if (_tokens.TakeOperator("."))
                {
                    value = _tokens.Is(TokenKind.Integer)
                        ? new Member(value, Primary())
                        : new Member(value, new Literal(_tokens.Take(TokenKind.Name)));
                }
                else if (_tokens.TakeOperator("["))
                {
                    value = Subscript(value);
                }
                else if (_tokens.TakeOperator("("))
                {
                    value = new Call(value, Arguments());
                }
                else
                {
                    return value;
                }
            }
        }

        private Expression Subscript(Expression owner)
        {
            var bounds = new Expression?[3];
            var colons = 0;
            while (!_tokens.TakeOperator("]"))
            {
                if (_tokens.TakeOperator(":") && ++colons < 3)
                {
                    continue;
                }
                if (colons > 2 || bounds[colons] != null)
                {
                    throw _tokens.Unexpected("']'");
                }
                bounds[colons] = Parse();
            }
            if (colons > 0)
            {
                return new Slice(owner, bounds);
            }
            return new Member(owner, bounds[0] ?? throw _tokens.Unexpected("a subscript"));
        }

        private Arguments Arguments()
        {
            var values = new List<Expression>();
            var named = new List<(string, Expression)>();
            while (!_tokens.TakeOperator(")"))
            {
                if (_tokens.IsOperator("*") || _tokens.IsOperator("**"))
                {
                    throw new TemplateException("the prompt template unpacks arguments, which is not supported");
                }
                if (_tokens.Is(TokenKind.Name) && _tokens.Following.Kind == TokenKind.Operator && _tokens.Following.Text == "=")
                {
                    var name = _tokens.Take();
                    _tokens.Need("=");
                    named.Add((name, Parse()));
                }
                else
                {
                    values.Add(Parse());
                }
                if (!_tokens.IsOperator(")"))
                {
                    _tokens.Need(",");
                }
            }
            return new Arguments(values, named);
        }

        private Expression FilteredAndTested(Expression value)
        {
            while (true)
            {
                if (_tokens.TakeOperator("|"))
                {
                    var name = _tokens.Take(TokenKind.Name);
                    value = new Filtered(value, name, _tokens.TakeOperator("(") ? Arguments() : NoArguments());
                }
                else if (_tokens.TakeName("is"))
                {
                    var not = _tokens.TakeName("not");
                    var test = Test(value);
                    value = not ? new Not(test) : test;
                }
                else if (_tokens.TakeOperator("("))
                {
                    value = new Call(value, Arguments());
                }
                else
                {
                    return value;
                }
            }
        }

        private Expression Test(Expression value)
        {
            var name = _tokens.Is(TokenKind.Operator) && _tokens.Current.Text is "==" or "!="
                ? _tokens.Take()
                : _tokens.Take(TokenKind.Name);
            if (_tokens.TakeOperator("("))
            {
                return new Tested(value, name, Arguments());
            }
            var argument = _tokens.Current.Kind switch
            {
                TokenKind.Name => !(_tokens.Current.Text is "else" or "or" or "and" or "is" or "if" or "in" or "not"),
                TokenKind.Text or TokenKind.Integer or TokenKind.Float => true,
                TokenKind.Operator => _tokens.Current.Text is "[" or "{",
                _ => false,
            };
            return new Tested(value, name, argument
                ? new Arguments(new List<Expression> { Followed(Primary()) }, new List<(string, Expression)>())
                : NoArguments());
        }

        private static Arguments NoArguments() =>
            new Arguments(new List<Expression>(), new List<(string, Expression)>());
    }
}
