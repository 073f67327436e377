using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace NudgeOnnx.Templates
{
    /// <summary>How a template goes on after a statement.</summary>
    internal enum Flow
    {
        /// <summary>With the next one.</summary>
        Next,

        /// <summary>With the next turn of the loop.</summary>
        Continue,

        /// <summary>Behind the loop.</summary>
        Break,
    }

    /// <summary>A part of a template that writes output, sets names, or leaves a loop.</summary>
    internal abstract class Statement
    {
        internal abstract Flow Run(Scope scope, StringBuilder output);

        internal static Flow RunAll(List<Statement> body, Scope scope, StringBuilder output)
        {
            foreach (var statement in body)
            {
                Meter.Step();
                Meter.Check(output.Length);
                var flow = statement.Run(scope, output);
                if (flow != Flow.Next)
                {
                    return flow;
                }
            }
            return Flow.Next;
        }
    }

    /// <summary><c>{% break %}</c> and <c>{% continue %}</c>.</summary>
    internal sealed class Leave : Statement
    {
        private readonly Flow _flow;

        internal Leave(Flow flow) => _flow = flow;

        internal override Flow Run(Scope scope, StringBuilder output) => _flow;
    }

    /// <summary>Text outside of tags.</summary>
    internal sealed class Data : Statement
    {
        private readonly string _text;

        internal Data(string text) => _text = text;

        internal override Flow Run(Scope scope, StringBuilder output)
        {
            output.Append(_text);
            return Flow.Next;
        }
    }

    /// <summary><c>{{ value }}</c>.</summary>
    internal sealed class Print : Statement
    {
        private readonly Expression _value;

        internal Print(Expression value) => _value = value;

        internal override Flow Run(Scope scope, StringBuilder output)
        {
            output.Append(Values.Text(_value.Value(scope)));
            return Flow.Next;
        }
    }

    /// <summary><c>{% if %} ... {% elif %} ... {% else %} ... {% endif %}</c>.</summary>
    internal sealed class If : Statement
    {
        private readonly List<(Expression Condition, List<Statement> Body)> _branches;
        private readonly List<Statement> _otherwise;

        internal If(List<(Expression, List<Statement>)> branches, List<Statement> otherwise)
        {
            _branches = branches;
            _otherwise = otherwise;
        }

        internal override Flow Run(Scope scope, StringBuilder output)
        {
            foreach (var (condition, body) in _branches)
            {
                if (Values.IsTrue(condition.Value(scope)))
                {
                    return RunAll(body, scope, output);
                }
            }
            return RunAll(_otherwise, scope, output);
        }
    }

    /// <summary><c>{% generation %} ... {% endgeneration %}</c>: marks what was trained on, and writes what is inside.</summary>
    internal sealed class Generation : Statement
    {
        private readonly List<Statement> _body;

        internal Generation(List<Statement> body) => _body = body;

        internal override Flow Run(Scope scope, StringBuilder output) => RunAll(_body, new Scope(scope), output);
    }

    /// <summary><c>{% set name = value %}</c>, also of an attribute of a namespace.</summary>
    internal sealed class Set : Statement
    {
        private readonly string _name;
        private readonly string? _attribute;
        private readonly Expression _value;

        internal Set(string name, string? attribute, Expression value)
        {
            _name = name;
            _attribute = attribute;
            _value = value;
        }

        internal override Flow Run(Scope scope, StringBuilder output)
        {
            var value = _value.Value(scope);
            if (_attribute is null)
            {
                scope[_name] = value;
            }
            else if (scope[_name] is Dictionary<string, object?> owner)
            {
                owner[_attribute] = value;
            }
            else
            {
                throw new TemplateException($"the prompt template sets an attribute of '{_name}', which is no namespace");
            }
            return Flow.Next;
        }
    }

    /// <summary><c>{% for name in items if condition %} ... {% else %} ... {% endfor %}</c>.</summary>
    internal sealed class For : Statement
    {
        private readonly List<string> _names;
        private readonly Expression _items;
        private readonly Expression? _condition;
        private readonly List<Statement> _body;
        private readonly List<Statement> _otherwise;

        internal For(
            List<string> names, Expression items, Expression? condition, List<Statement> body, List<Statement> otherwise)
        {
            _names = names;
            _items = items;
            _condition = condition;
            _body = body;
            _otherwise = otherwise;
        }

        internal override Flow Run(Scope scope, StringBuilder output)
        {
            var items = Values.Items(_items.Value(scope));
            if (_condition != null)
            {
                items = items.Where(item => Values.IsTrue(_condition.Value(Turn(scope, item)))).ToList();
            }
            for (var index = 0; index < items.Count; index++)
            {
                Meter.Step();
                var turn = Turn(scope, items[index]);
                turn["loop"] = Loop(items, index);
                if (RunAll(_body, turn, output) == Flow.Break)
                {
                    break;
                }
            }
            return items.Count == 0 ? RunAll(_otherwise, new Scope(scope), output) : Flow.Next;
        }

        private Scope Turn(Scope scope, object? item)
        {
            var turn = new Scope(scope);
            if (_names.Count == 1)
            {
                turn[_names[0]] = item;
                return turn;
            }
            var parts = Values.Items(item);
            if (parts.Count != _names.Count)
            {
                throw new TemplateException("the prompt template unpacks an item into another number of names");
            }
            for (var i = 0; i < parts.Count; i++)
            {
                turn[_names[i]] = parts[i];
            }
            return turn;
        }

        private static Dictionary<string, object?> Loop(List<object?> items, int index) => new Dictionary<string, object?>
        {
            ["index"] = index + 1L,
            ["index0"] = (long)index,
            ["revindex"] = (long)(items.Count - index),
            ["revindex0"] = items.Count - index - 1L,
            ["first"] = index == 0,
            ["last"] = index == items.Count - 1,
            ["length"] = (long)items.Count,
            ["previtem"] = index > 0 ? items[index - 1] : new Undefined("there is no previous item"),
            ["nextitem"] = index + 1 < items.Count ? items[index + 1] : new Undefined("there is no next item"),
        };
    }
}
