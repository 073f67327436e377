// The AI SDK, as it comes: `node ai_sdk.mjs URL MODEL PROMPT` prints what it was told as JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, streamText } from "ai";

const [url, name, prompt] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "nudge", baseURL: `${url}/v1`, supportsStructuredOutputs: true });
const model = provider(name);
const asked = { model, prompt, maxOutputTokens: 16, maxRetries: 0 };

const whole = await generateText(asked);
let streamed = "";
for await (const part of streamText(asked).textStream) streamed += part;
const schema = jsonSchema({
  type: "object",
  properties: { size: { enum: ["small", "large"] }, count: { type: "integer", minimum: 0, maximum: 9 } },
  required: ["size", "count"],
  additionalProperties: false,
});
const { object } = await generateObject({ model, prompt, schema, maxRetries: 0 });
console.log(JSON.stringify({ whole: whole.text, usage: whole.usage, streamed, object }));
