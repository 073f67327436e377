"""Prompt templates in the manner of those that models come with: the constructs are theirs, the words are not."""

from __future__ import annotations

__all__ = ["TEMPLATES"]

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

GEMMA = r"""{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""

LLAMA_3 = r"""{{- bos_token }}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined and false %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message, if there is one -#}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{%- endfor %}
{%- endif %}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("one at a time") }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

QWEN = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in message.content %}
                {%- set content = message.content.split('</think>')[-1].lstrip('\n') %}
                {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}{%- for tool_call in message.tool_calls %}{{- tool_call.name }}{%- endfor %}{%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""  # noqa: E501

WHITESPACE = """  {% if true %}
  kept {% if false %} no {% endif %} and kept
    {% for message in messages %}
   - {{ loop.index }}/{{ loop.length }} {{ message.role ~ ':' ~ loop.last }}
    {%- if loop.last %} last{% endif +%}

    {% endfor %}
{# a comment #}
  {%+ if true %}indent stays{% endif %}
end


"""

EXPRESSIONS = (
    "{{ 1 + 2 * 3 - 4 // 3 % 2 }} {{ 7 / 2 }} {{ -3 }} {{ messages[-1].content | length }} {{ messages|length > 1 }} "
    "{{ 'a' if messages[0].role == 'user' else 'b' }} {{ none }} {{ undefined_name }} {{ 'x' * 3 }} "
    "{{ messages[0].content[:2] | upper }}{{ messages[0].content[-3:-1] }} {{ 'b' in 'abc' and 'd' not in 'abc' }} "
    "{{ messages[0]['nothing'] or 'default' }} {{ missing | default('given') }} {{ [1, 2, 3] | join('-') }} "
    "{% for key, value in {'k': 1, 'l': 'two'}.items() %}{{ key }}={{ value }};{% endfor %} "
    "{% for n in range(1, 6) if n is odd %}{{ n }}{% if not loop.last %},{% endif %}{% else %}none{% endfor %} "
    "{{ messages[0].content | tojson }} {{ 'A b'.lower().replace(' ', '_') }} {{ \"\\u00e9\\n\\\\\" }} "
    "{{ {'a': [1, true, none]} | tojson }} "
    "{% set x = 1 %}{% for m in messages %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }} {{ 2 < 3 <= 3 }} "
    "{{ not messages is none }} {{ (1, 2) | last }} {{ messages | first is mapping }} {{ 3.5 + 1 }}"
)

GENERATION = """{% for message in messages %}
{% if message.role == 'assistant' %}
{% generation %}
{{ message.content }}
{% endgeneration %}
{% else %}
{{ message.role }}: {%- generation -%} {{ message.content }} {%- endgeneration %}

{% endif %}
{% endfor %}
"""

JSON = (
    "{{ messages[0] | tojson }}{{ messages | tojson(indent=2) }}{{ messages[-1].content | tojson(ensure_ascii=true) }}"
    "{{ {'b': 1, 'a': [none, 2.5, true, [], {}]} | tojson(separators=(',', ':'), sort_keys=true) }}"
    "{{ {'b': [1], 'a': '<&>'} | tojson(indent='--') }}{{ ['x'] | tojson(none, separators=(' ; ', '=')) }}"
)

GIVEN = (
    "{{ tools is defined }}{{ tools is none }}{{ documents is none }}{% if tools %}tools{% endif %}"
    "{% for message in messages %}[{{ message.role }}|{{ message.content }}]{% endfor %}"
)

TEMPLATES = {
    "plain": "{% for message in messages %}{{ message.content }}\n{% endfor %}",
    "question": "{{ bos_token }}Question: {{ messages[-1].content }}\nAnswer:",
    "chatml": CHATML,
    "gemma": GEMMA,
    "llama3": LLAMA_3,
    "qwen": QWEN,
    "whitespace": WHITESPACE,
    "expressions": EXPRESSIONS,
    "generation": GENERATION,
    "json": JSON,
    "given": GIVEN,
    "leaves loops": (
        "{% for message in messages %}{% if message.role == 'system' %}{% continue %}{% endif %}"
        "{{ message.role }}:{% for n in range(5) %}{% if n > 2 %}{% break %}{% endif %}{{ n }}{% endfor %}\n"
        "{%- if loop.index > 2 %}{% break %}{% endif %}{% endfor %}end"
    ),
    "refuses none": "{{ 'a' + none }}",
    "refuses undefined": "{{ nobody.name }}",
    "refuses without a reason": "{{ raise_exception('') }}",
    "refuses to divide": "{{ 1 // 0 }}",
    "refuses to repeat": "{{ 'x' * 10000000000 }}",
    "refuses to recurse": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
}
"""Templates by name; those that refuse do so for every conversation."""
