using System;
using System.Collections.Generic;
using System.Linq;

namespace NudgeOnnx.Templates
{
    /// <summary>A part of a template that has a value.</summary>
    internal abstract class Expression
    {
        internal abstract object? Value(Scope scope);
    }

    internal sealed class Literal : Expression
    {
        private readonly object? _value;

        internal Literal(object? value) => _value = value;

        internal override object? Value(Scope scope) => _value;
    }

    internal sealed class NameOf : Expression
    {
        internal NameOf(string name) => Name = name;

        internal string Name { get; }

        internal override object? Value(Scope scope) => scope[Name];
    }

    internal sealed class ListOf : Expression
    {
        private readonly List<Expression> _items;

        internal ListOf(List<Expression> items) => _items = items;

        internal override object? Value(Scope scope) => _items.Select(item => item.Value(scope)).ToList();
    }

    internal sealed class MapOf : Expression
    {
        private readonly List<(Expression Key, Expression Value)> _entries;

        internal MapOf(List<(Expression, Expression)> entries) => _entries = entries;

        internal override object? Value(Scope scope)
        {
            var map = new Dictionary<string, object?>();
            foreach (var (key, value) in _entries)
            {
                map[Values.Text(key.Value(scope))] = value.Value(scope);
            }
            return map;
        }
    }

    /// <summary><c>value.name</c>, and <c>value[key]</c>, which finds the same.</summary>
    internal sealed class Member : Expression
    {
        private readonly Expression _key;

        internal Member(Expression owner, Expression key)
        {
            Owner = owner;
            _key = key;
        }

        internal Expression Owner { get; }

        internal object? Key(Scope scope) => _key.Value(scope);

        internal override object? Value(Scope scope)
        {
            var key = _key.Value(scope);
            switch (Owner.Value(scope))
            {
                case Undefined undefined:
                    return undefined.Fail<object?>();
                case Dictionary<string, object?> map when key is string name:
                    return map.TryGetValue(name, out var value) ? value : new Undefined(name);
                case List<object?> list when key is long index:
                    return At(list, index);
                case string text when key is long index:
                    return At(Values.Characters(text), index);
                default:
                    return new Undefined(key is string attribute ? attribute : "item");
            }
        }

        private static object? At(List<object?> items, long index)
        {
            index = index < 0 ? index + items.Count : index;
            return index >= 0 && index < items.Count ? items[(int)index] : new Undefined("item");
        }
    }

    /// <summary><c>value[start:stop:step]</c>.</summary>
    internal sealed class Slice : Expression
    {
        private readonly Expression _owner;
        private readonly Expression?[] _bounds;

        internal Slice(Expression owner, Expression?[] bounds)
        {
            _owner = owner;
            _bounds = bounds;
        }

        internal override object? Value(Scope scope)
        {
            var owner = _owner.Value(scope);
            var items = owner is Undefined undefined ? undefined.Fail<List<object?>>() : Values.Items(owner);
            var step = Bound(2, scope) ?? 1;
            if (step == 0)
            {
                throw new TemplateException("the prompt template slices with step 0");
            }
            var (low, high) = step > 0 ? (0L, (long)items.Count) : (-1L, items.Count - 1L);
            var start = Limit(Bound(0, scope), step > 0 ? low : high, items.Count, low, high);
            var stop = Limit(Bound(1, scope), step > 0 ? high : low, items.Count, low, high);
            var taken = new List<object?>();
            for (var at = start; step > 0 ? at < stop : at > stop; at += step)
            {
                taken.Add(items[(int)at]);
            }
            return owner is string ? string.Concat(taken) : (object)taken;
        }

        private static long Limit(long? bound, long otherwise, int count, long low, long high) => bound is { } given
            ? Math.Max(low, Math.Min(high, given < 0 ? given + count : given))
            : otherwise;

        private long? Bound(int which, Scope scope) => _bounds[which]?.Value(scope) switch
        {
            null => null,
            long number => number,
            var other => throw new TemplateException($"the prompt template slices with {Values.Kind(other)}"),
        };
    }

    internal sealed class Conditional : Expression
    {
        private readonly Expression _condition;
        private readonly Expression _then;
        private readonly Expression? _otherwise;

        internal Conditional(Expression condition, Expression then, Expression? otherwise)
        {
            _condition = condition;
            _then = then;
            _otherwise = otherwise;
        }

        internal override object? Value(Scope scope) => Values.IsTrue(_condition.Value(scope))
            ? _then.Value(scope)
            : _otherwise is null ? new Undefined("the else of an inline if") : _otherwise.Value(scope);
    }

    internal sealed class Not : Expression
    {
        private readonly Expression _operand;

        internal Not(Expression operand) => _operand = operand;

        internal override object? Value(Scope scope) => !Values.IsTrue(_operand.Value(scope));
    }

    /// <summary><c>and</c> and <c>or</c>: the value of the operand that decides.</summary>
    internal sealed class Logical : Expression
    {
        private readonly bool _and;
        private readonly Expression _left;
        private readonly Expression _right;

        internal Logical(bool and, Expression left, Expression right)
        {
            _and = and;
            _left = left;
            _right = right;
        }

        internal override object? Value(Scope scope)
        {
            var left = _left.Value(scope);
            return Values.IsTrue(left) == _and ? _right.Value(scope) : left;
        }
    }

    /// <summary>A chain of comparisons, <c>a &lt; b == c</c>: all of them must hold.</summary>
    internal sealed class Comparison : Expression
    {
        private readonly Expression _first;
        private readonly List<(string Operator, Expression Operand)> _rest;

        internal Comparison(Expression first, List<(string, Expression)> rest)
        {
            _first = first;
            _rest = rest;
        }

        internal override object? Value(Scope scope)
        {
            var left = _first.Value(scope);
            foreach (var (symbol, operand) in _rest)
            {
                var right = operand.Value(scope);
                if (!Holds(symbol, left, right))
                {
                    return false;
                }
                left = right;
            }
            return true;
        }

        private static bool Holds(string symbol, object? left, object? right) => symbol switch
        {
            "==" => Values.Same(left, right),
            "!=" => !Values.Same(left, right),
            "<" => Values.Order(left, right) < 0,
            "<=" => Values.Order(left, right) <= 0,
            ">" => Values.Order(left, right) > 0,
            ">=" => Values.Order(left, right) >= 0,
            "in" => Values.Contains(right, left),
            _ => !Values.Contains(right, left),
        };
    }

    /// <summary>Arithmetic and the joining of texts and lists.</summary>
    internal sealed class Arithmetic : Expression
    {
        private readonly string _symbol;
        private readonly Expression _left;
        private readonly Expression _right;

        internal Arithmetic(string symbol, Expression left, Expression right)
        {
            _symbol = symbol;
            _left = left;
            _right = right;
        }

        internal override object? Value(Scope scope)
        {
            var (left, right) = (_left.Value(scope), _right.Value(scope));
            switch (_symbol, left, right)
            {
                case ("~", _, _):
                    return Joined(Values.Text(left), Values.Text(right));
                case ("+", string a, string b):
                    return Joined(a, b);
                case ("+", List<object?> a, List<object?> b):
                    Meter.Spend(a.Count + b.Count);
                    return a.Concat(b).ToList();
                case ("*", string a, long times):
                    Meter.Spend(times > int.MaxValue && a.Length > 0 ? long.MaxValue : Math.Max(0, times) * a.Length);
                    return a.Length == 0 ? "" : string.Concat(Enumerable.Repeat(a, (int)Math.Max(0, times)));
            }
            if (Values.Number(left) is { } one && Values.Number(right) is { } other)
            {
                return left is double || right is double || _symbol == "/"
                    ? Fraction(one, other)
                    : (object)Whole((long)one, (long)other);
            }
            throw new TemplateException(
                $"the prompt template applies {_symbol} to {Values.Kind(left)} and {Values.Kind(right)}");
        }

        private static string Joined(string left, string right)
        {
            Meter.Spend((long)left.Length + right.Length);
            return left + right;
        }

        private double Fraction(double left, double right) => _symbol switch
        {
            "+" => left + right,
            "-" => left - right,
            "*" => left * right,
            "/" when right != 0 => left / right,
            "//" when right != 0 => Math.Floor(left / right),
            "%" when right != 0 => left - Math.Floor(left / right) * right,
            _ => throw new TemplateException("the prompt template divides by zero"),
        };

        private long Whole(long left, long right)
        {
            if (right == 0 && (_symbol == "//" || _symbol == "%"))
            {
                throw new TemplateException("the prompt template divides by zero");
            }
            return _symbol switch
            {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "//" => (long)Math.Floor((double)left / right),
                _ => ((left % right) + right) % right,
            };
        }
    }

    internal sealed class Negative : Expression
    {
        private readonly Expression _operand;

        internal Negative(Expression operand) => _operand = operand;

        internal override object? Value(Scope scope) => _operand.Value(scope) switch
        {
            long number => (object)-number,
            double number => -number,
            var other => throw new TemplateException($"the prompt template negates {Values.Kind(other)}"),
        };
    }

    /// <summary><c>value | name(arguments)</c>.</summary>
    internal sealed class Filtered : Expression
    {
        private readonly Expression _operand;
        private readonly string _name;
        private readonly Arguments _arguments;

        internal Filtered(Expression operand, string name, Arguments arguments)
        {
            _operand = operand;
            _name = name;
            _arguments = arguments;
        }

        internal override object? Value(Scope scope) =>
            Filters.Apply(_name, _operand.Value(scope), _arguments.Values(scope), _arguments.Named(scope));
    }

    /// <summary><c>value is name(argument)</c>.</summary>
    internal sealed class Tested : Expression
    {
        private readonly Expression _operand;
        private readonly string _name;
        private readonly Arguments _arguments;

        internal Tested(Expression operand, string name, Arguments arguments)
        {
            _operand = operand;
            _name = name;
            _arguments = arguments;
        }

        internal override object? Value(Scope scope) =>
            Tests.Holds(_name, _operand.Value(scope), _arguments.Values(scope));
    }

    /// <summary><c>function(arguments)</c> and <c>value.method(arguments)</c>.</summary>
    internal sealed class Call : Expression
    {
        private readonly Expression _callee;
        private readonly Arguments _arguments;

        internal Call(Expression callee, Arguments arguments)
        {
            _callee = callee;
            _arguments = arguments;
        }

        internal override object? Value(Scope scope)
        {
            var values = _arguments.Values(scope);
            return _callee switch
            {
                NameOf function => Functions.Call(function.Name, values, _arguments.Named(scope)),
                Member method => Functions.CallMethod(method.Owner.Value(scope), Values.Text(method.Key(scope)), values),
                _ => throw new TemplateException("the prompt template calls what is no function"),
            };
        }
    }

    /// <summary>The arguments of a call, by position and by name.</summary>
    internal sealed class Arguments
    {
        private readonly List<Expression> _values;
        private readonly List<(string Name, Expression Value)> _named;

        internal Arguments(List<Expression> values, List<(string, Expression)> named)
        {
            _values = values;
            _named = named;
        }

        internal List<object?> Values(Scope scope) => _values.Select(value => value.Value(scope)).ToList();

        internal Dictionary<string, object?> Named(Scope scope) =>
            _named.ToDictionary(entry => entry.Name, entry => entry.Value.Value(scope));
    }
}
