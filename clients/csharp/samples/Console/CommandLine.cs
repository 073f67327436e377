using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace NudgeOnnx.Samples
{
    /// <summary>A command line that cannot be understood.</summary>
    internal sealed class UsageException : Exception
    {
        internal UsageException(string message) : base(message)
        {
        }
    }

    /// <summary>The arguments of <c>run BUNDLE PROMPT</c>.</summary>
    internal sealed class CommandLine
    {
        internal const string Usage =
            "usage: run BUNDLE PROMPT [--json] [--gamma G] [--policy word|token] \n"
            + "           [--gate top1|margin|entropy|bet] [--gate-temperature T] [--tail draft|lazy]\n"
            + "           [--draft-tokens N] [--max-new-tokens N] [--stop TEXT]... [--system-prompt TEXT]\n"
            + "           [--read-ahead N] [--provider NAME]... [--provider-option NAME.KEY=VALUE]...\n"
            + "           [--threads N]\n"
            + "       check BUNDLE";

        private CommandLine(string command, string bundle, string prompt, bool json, LoadOptions load, StreamOptions stream)
        {
            Command = command;
            Bundle = bundle;
            Prompt = prompt;
            Json = json;
            Load = load;
            Stream = stream;
        }

        internal string Command { get; }

        internal string Bundle { get; }

        internal string Prompt { get; }

        internal bool Json { get; }

        internal LoadOptions Load { get; }

        internal StreamOptions Stream { get; }

        /// <exception cref="UsageException">An argument is missing, unknown or ill-formed.</exception>
        internal static CommandLine Parse(string[] arguments)
        {
            var given = new Dictionary<string, List<string>>();
            var plain = new List<string>();
            for (var i = 0; i < arguments.Length; i++)
            {
                if (!arguments[i].StartsWith("--", StringComparison.Ordinal))
                {
                    plain.Add(arguments[i]);
                    continue;
                }
                var name = arguments[i].Substring(2);
                var value = name == "json" ? "" : ++i < arguments.Length ? arguments[i] : throw new UsageException(Usage);
                given.TryAdd(name, new List<string>());
                given[name].Add(value);
            }
            var command = plain.Count > 0 ? plain[0] : "";
            if (!(command == "run" && plain.Count == 3) && !(command == "check" && plain.Count == 2))
            {
                throw new UsageException(Usage);
            }
            var options = new Options(given);
            var load = new LoadOptions
            {
                Providers = options.Texts("provider") is { Count: > 0 } providers ? providers : new List<string> { "cpu" },
                ProviderOptions = Settings(options.Texts("provider-option")),
                Threads = options.Number("threads"),
            };
            var stream = new StreamOptions
            {
                Gamma = options.Fraction("gamma"),
                Policy = options.Text("policy"),
                Gate = options.Text("gate"),
                GateTemperature = options.Fraction("gate-temperature"),
                Tail = options.Text("tail"),
                DraftTokens = options.Number("draft-tokens"),
                MaxNewTokens = options.Number("max-new-tokens") ?? 256,
                Stop = options.Texts("stop"),
                SystemPrompt = options.Text("system-prompt"),
                ReadAhead = options.Number("read-ahead"),
            };
            var json = options.Texts("json").Count > 0;
            options.RefuseRest();
            return new CommandLine(command, plain[1], plain.Count > 2 ? plain[2] : "", json, load, stream);
        }

        /// <summary>Options of providers from texts as in <c>cuda.device_id=1</c>.</summary>
        private static Dictionary<string, IReadOnlyDictionary<string, string>> Settings(List<string> texts)
        {
            var settings = new Dictionary<string, Dictionary<string, string>>();
            foreach (var text in texts)
            {
                var parts = text.Split(new[] { '.', '=' }, 3);
                if (parts.Length < 3 || text.IndexOf('=') < text.IndexOf('.'))
                {
                    throw new UsageException($"--provider-option needs NAME.KEY=VALUE, as in cuda.device_id=1, not '{text}'");
                }
                settings.TryAdd(parts[0], new Dictionary<string, string>());
                settings[parts[0]][parts[1]] = parts[2];
            }
            return settings.ToDictionary(entry => entry.Key, entry => (IReadOnlyDictionary<string, string>)entry.Value);
        }

        /// <summary>Options by name; each is taken once.</summary>
        private sealed class Options
        {
            private readonly Dictionary<string, List<string>> _given;

            internal Options(Dictionary<string, List<string>> given) => _given = given;

            internal List<string> Texts(string name) =>
                _given.Remove(name, out var values) ? values : new List<string>();

            internal string? Text(string name)
            {
                var values = Texts(name);
                return values.Count > 0 ? values[values.Count - 1] : null;
            }

            internal int? Number(string name) => Text(name) is not { } text ? null
                : int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out var number) ? number
                : throw new UsageException($"--{name} needs a whole number, not '{text}'");

            internal double? Fraction(string name) => Text(name) is not { } text ? null
                : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) ? number
                : throw new UsageException($"--{name} needs a number, not '{text}'");

            internal void RefuseRest()
            {
                foreach (var name in _given.Keys)
                {
                    throw new UsageException($"unknown option --{name}\n{Usage}");
                }
            }
        }
    }
}
