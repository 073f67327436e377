using System.Collections.Generic;

namespace NudgeOnnx.Templates
{
    /// <summary>Names and their values. Every turn of a loop has a scope of its own; what it sets is gone after it.</summary>
    internal sealed class Scope
    {
        private readonly Scope? _outer;
        private readonly Dictionary<string, object?> _values = new Dictionary<string, object?>();

        internal Scope(Scope? outer = null)
        {
            _outer = outer;
        }

        internal object? this[string name]
        {
            get
            {
                for (var scope = this; scope != null; scope = scope._outer)
                {
                    if (scope._values.TryGetValue(name, out var value))
                    {
                        return value;
                    }
                }
                return new Undefined(name);
            }
            set => _values[name] = value;
        }
    }
}
