using System.Collections.Generic;
using System.Linq;
using NudgeOnnx.Inference;
using NudgeOnnx.Text;

namespace NudgeOnnx.Decoding
{
    /// <summary>
    /// A draft that its model writes as far as it is wanted: to its limit and on to the end of a character, or to its end
    /// token.
    /// </summary>
    internal sealed class OpenDraft
    {
        private readonly Participant _writer;
        private readonly List<int> _ids;
        private readonly int _start;
        private readonly int _length;
        private readonly List<double> _top1 = new List<double>();
        private readonly List<byte> _data = new List<byte>();
        private bool _ended;
        private Draft? _soFar;

        internal OpenDraft(Participant writer, List<int> ids, int length)
        {
            _writer = writer;
            _ids = ids;
            _start = ids.Count;
            _length = length;
        }

        /// <summary>How many tokens are written.</summary>
        internal int Count => _top1.Count;

        /// <summary>Whether there is no more of it.</summary>
        internal bool Done => _ended || (_top1.Count >= _length && Utf8Text.Open(_data.ToArray()) == 0);

        /// <summary>What is written. Its text and hand-overs are a beginning of those of the whole draft.</summary>
        internal Draft SoFar =>
            _soFar ??= new Draft(_ids.Skip(_start).ToArray(), _top1.ToArray(), _ended, _writer.Tokenizer);

        /// <summary>Write one more token, or find the end.</summary>
        /// <exception cref="ContextLengthException">The model's context is full.</exception>
        internal void Grow()
        {
            var choice = _writer.Drafted(_ids);
            _soFar = null;
            if (_writer.Ends(choice))
            {
                _ended = true;
                return;
            }
            _ids.Add(choice.Token);
            _top1.Add(choice.Top1);
            _data.AddRange(_writer.Tokenizer.BytesOf(choice.Token));
        }

        /// <summary>All of it.</summary>
        /// <exception cref="ContextLengthException">The model's context is full.</exception>
        internal Draft Whole()
        {
            while (!Done)
            {
                Grow();
            }
            return SoFar;
        }
    }
}
