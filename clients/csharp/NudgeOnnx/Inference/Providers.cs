using System;
using System.Collections.Generic;
using System.Linq;
using Microsoft.ML.OnnxRuntime;

namespace NudgeOnnx.Inference
{
    /// <summary>Execution providers by short name, checked: there is no fallback to the CPU that was not asked for.</summary>
    internal static class Providers
    {
        private static readonly Dictionary<string, string> Full = new Dictionary<string, string>
        {
            ["cpu"] = "CPUExecutionProvider",
            ["cuda"] = "CUDAExecutionProvider",
            ["tensorrt"] = "TensorrtExecutionProvider",
            ["openvino"] = "OpenVINOExecutionProvider",
            ["directml"] = "DmlExecutionProvider",
            ["coreml"] = "CoreMLExecutionProvider",
            ["qnn"] = "QNNExecutionProvider",
        };

        // What a provider has recorded runs again in its old shapes and memory: from the second pass on, wrong answers.
        private static readonly string[] Recording =
        {
            "enable_cuda_graph", "trt_cuda_graph_enable", "enable_graph_capture",
        };

        /// <summary>Add the wanted providers to <paramref name="session"/>; returns the first one's short name.</summary>
        /// <exception cref="ProviderException">A name nobody knows, an option that would record runs, or none is there or loads.</exception>
        internal static string Append(SessionOptions session, LoadOptions options)
        {
            var available = OrtEnv.Instance().GetAvailableProviders();
            var found = options.Providers.Where(name => IsAvailable(name, available)).ToList();
            if (found.Count == 0)
            {
                var asked = options.Providers.Count == 0
                    ? "(none)"
                    : string.Join(", ", options.Providers.Select(name => $"'{name}'"));
                throw new ProviderException(
                    $"provider {asked} is not in this build of ONNX Runtime; available here: {Names(available)}. "
                    + "Install the build that has it or add a fallback such as 'cpu'");
            }
            string? first = null;
            foreach (var name in found)
            {
                var settings = options.ProviderOptions.TryGetValue(name, out var given)
                    ? given.ToDictionary(entry => entry.Key, entry => entry.Value)
                    : new Dictionary<string, string>();
                RefuseRecording(name, settings);
                if (TryAppend(session, FullName(name), settings))
                {
                    first ??= Short(FullName(name));
                }
            }
            return first ?? throw new ProviderException(
                $"provider '{Short(FullName(found[0]))}' did not load: {Needs(FullName(found[0]))}. "
                + "Loaded: cpu; add 'cpu' to fall back to it");
        }

        /// <summary>Whether a provider keeps tensors in the memory of an NVIDIA GPU.</summary>
        internal static bool IsCuda(string provider) => provider is "cuda" or "tensorrt";

        private static void RefuseRecording(string name, Dictionary<string, string> settings)
        {
            foreach (var key in Recording)
            {
                if (settings.TryGetValue(key, out var value) && value is not ("0" or "false" or "False"))
                {
                    throw new ProviderException(
                        $"{Short(FullName(name))} option {key} replays the first pass with its shapes, and a decoder's "
                        + "passes grow; leave it out. The Python package can record CUDA graphs");
                }
            }
        }

        private static bool IsAvailable(string name, string[] available)
        {
            var full = FullName(name);
            if (!Full.ContainsValue(full) && !available.Contains(full))
            {
                throw new ProviderException($"unknown provider '{name}'; available here: {Names(available)}");
            }
            return available.Contains(full);
        }

        private static bool TryAppend(SessionOptions session, string full, Dictionary<string, string> settings)
        {
            try
            {
                switch (full)
                {
                    case "CPUExecutionProvider":
                        break;
                    case "CUDAExecutionProvider":
                        using (var cuda = new OrtCUDAProviderOptions())
                        {
                            cuda.UpdateOptions(settings);
                            session.AppendExecutionProvider_CUDA(cuda);
                        }
                        break;
                    case "TensorrtExecutionProvider":
                        using (var tensorrt = new OrtTensorRTProviderOptions())
                        {
                            tensorrt.UpdateOptions(settings);
                            session.AppendExecutionProvider_Tensorrt(tensorrt);
                        }
                        break;
                    default:
                        session.AppendExecutionProvider(full.Replace("ExecutionProvider", ""), settings);
                        break;
                }
                return true;
            }
            catch (OnnxRuntimeException)
            {
                return false;
            }
        }

        private static string FullName(string name) => Full.TryGetValue(name.ToLowerInvariant(), out var full) ? full : name;

        private static string Short(string full) => Full.FirstOrDefault(entry => entry.Value == full).Key ?? full;

        private static string Names(IEnumerable<string> full) => string.Join(", ", full.Select(Short));

        private static string Needs(string full) => full switch
        {
            "CUDAExecutionProvider" => "it needs an NVIDIA driver, CUDA 13 and cuDNN 9 beside ONNX Runtime's GPU build",
            "TensorrtExecutionProvider" =>
                "it needs an NVIDIA driver, CUDA 13, cuDNN 9 and TensorRT 10 beside ONNX Runtime's GPU build",
            _ => "ONNX Runtime refused it",
        };
    }
}
