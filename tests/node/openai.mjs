// The official client for Node, as it comes: `node openai.mjs URL MODEL PROMPT` prints what it was told as JSON.
import OpenAI from "openai";

const [url, model, prompt] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: prompt }];

const whole = await client.chat.completions.create({ model, messages, max_tokens: 16 });
let streamed = "", usage = null;
const stream = await client.chat.completions.create({
  model, messages, max_tokens: 16, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
const completion = await client.completions.create({ model, prompt, max_tokens: 12 });
const response = await client.responses.create({ model, input: prompt, max_output_tokens: 16 });
let told = "";
for await (const event of await client.responses.create({ model, input: prompt, max_output_tokens: 16, stream: true })) {
  if (event.type === "response.output_text.delta") told += event.delta;
}
const models = [];
for await (const one of client.models.list()) models.push(one.id);
let refused = null;
try {
  await client.chat.completions.create({ model: "none", messages });
} catch (error) {
  refused = { name: error.constructor.name, code: error.code };
}
// A stream that is left in the middle.
const left = await client.chat.completions.create({ model, messages, max_tokens: 400, stream: true });
for await (const _ of left) break;
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, streamed, usage, completion: completion.choices[0].text,
  response: response.output_text, told, models, refused,
}));
