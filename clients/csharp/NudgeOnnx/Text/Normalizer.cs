using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace NudgeOnnx.Text
{
    /// <summary>Changes a text before it is cut; reads a <c>normalizer</c>.</summary>
    internal sealed class Normalizer
    {
        // Below this, every text is in every composed normal form already.
        private const char FirstComposable = '\u0300';

        private readonly List<Func<string, string>> _steps = new List<Func<string, string>>();

        /// <exception cref="BundleException">A kind of step that is not supported.</exception>
        internal Normalizer(JsonElement settings)
        {
            foreach (var step in TokenizerFile.Steps(settings, "normalizers"))
            {
                _steps.Add(Step(step));
            }
        }

        internal string Normalize(string text) => _steps.Aggregate(text, (changed, step) => step(changed));

        private static Func<string, string> Step(JsonElement step)
        {
            switch (TokenizerFile.Kind(step))
            {
                case "Replace":
                    var content = step.GetProperty("content").GetString()!;
                    if (TokenizerFile.PlainPattern(step) is { } plain)
                    {
                        return text => text.Replace(plain, content);
                    }
                    var pattern = new Regex(TokenizerFile.Pattern(step), RegexOptions.CultureInvariant);
                    return text => pattern.Replace(text, content.Replace("$", "$$"));
                case "Prepend":
                    var prefix = step.GetProperty("prepend").GetString()!;
                    return text => text.Length == 0 ? text : prefix + text;
                case "NFC":
                    return text => Compose(text, NormalizationForm.FormC);
                default:
                    throw TokenizerFile.Unsupported("normalizer", step);
            }
        }

        private static string Compose(string text, NormalizationForm form)
        {
            if (text.All(character => character < FirstComposable))
            {
                return text;
            }
            // In invariant globalisation mode .NET returns every text as it is.
            if ("e\u0301".Normalize(form).Length != 1)
            {
                throw new NudgeException(
                    "this tokenizer normalises Unicode, which .NET does not do with InvariantGlobalization; "
                    + "turn that off and install ICU");
            }
            return text.Normalize(form);
        }
    }
}
