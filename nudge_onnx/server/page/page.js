"use strict";
// The page of a nudge-onnx server: a conversation in which one sees who wrote what. No library, no build.

const byId = (id) => document.getElementById(id);
const STORE = "nudge-onnx conversation";
const KEY = "nudge-onnx key";
const TITLES = { nudged: "nudged", base: "base model alone", nudge: "nudging model alone" };
const AUTHORS = { base: "base model", nudge: "nudging model" };

let model = "";
let running = null; // the AbortController of answers on their way
let turns = []; // { asked, gamma, answers: [{ mode, pieces: [{ text, source, top1 }], figures }] }

function element(tag, className, text) {
  const found = document.createElement(tag);
  if (className) found.className = className;
  if (text !== undefined) found.textContent = text;
  return found;
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

function fail(message) {
  byId("error").textContent = message;
  byId("error").hidden = !message;
}

// --- one answer on the page

class AnswerView {
  constructor(parent, record, gamma) {
    this.record = record;
    this.gamma = gamma;
    const box = element("article", "answer");
    box.setAttribute("aria-label", `Answer, ${TITLES[record.mode]}`);
    this.text = element("p", "text");
    this.figures = element("p", "figures");
    this.strip = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.strip.setAttribute("class", "strip");
    this.strip.setAttribute("role", "img");
    this.strip.setAttribute("preserveAspectRatio", "none");
    box.append(element("h2", "", TITLES[record.mode]), this.text, this.figures, this.strip);
    parent.append(box);
    for (const piece of record.pieces) this.show(piece);
    this.draw();
    this.text.addEventListener("keydown", (event) => this.move(event));
    this.text.addEventListener("focusin", (event) => this.tell(event.target));
    this.text.addEventListener("pointerover", (event) => this.tell(event.target));
  }

  add(piece) {
    this.record.pieces.push(piece);
    this.show(piece);
    this.draw();
  }

  show(piece) {
    if (!piece.text) return;
    const span = element("span", `piece ${piece.source}`, piece.text);
    span.tabIndex = this.text.childElementCount ? -1 : 0; // one stop for Tab; arrows move on from there
    span.piece = piece;
    this.text.append(span);
  }

  tell(target) {
    if (!target.piece) return;
    const { source, top1 } = target.piece;
    const known = top1.filter((value) => value !== null).map((value) => value.toFixed(3));
    const said = known.length ? `top-1 probability ${known.join(", ")}` : "spelt anew where the base model took over";
    byId("detail").textContent = `“${target.textContent.trim()}”: ${AUTHORS[source]}, ${said}`;
  }

  move(event) {
    const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
    const ends = { Home: "firstElementChild", End: "lastElementChild" }[event.key];
    const next = step ? event.target[step] : ends ? this.text[ends] : null;
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  draw() {
    const tokens = this.record.pieces.flatMap((p) => p.top1.map((value) => ({ value, source: p.source })));
    const nudged = tokens.filter((token) => token.source === "nudge").length;
    const ratio = tokens.length ? (100 * nudged) / tokens.length : 0;
    const { seconds, ended } = this.record.figures;
    const speed = seconds ? `, ${(tokens.length / seconds).toFixed(1)} tokens/s` : "";
    this.figures.textContent =
      `${tokens.length} tokens, ${ratio.toFixed(0)} % by the nudging model${speed}${ended ? `, ended: ${ended}` : ""}`;
    const width = Math.max(tokens.length, 2);
    const y = (value) => 100 - 100 * value;
    this.strip.setAttribute("viewBox", `0 0 ${width - 1} 100`);
    this.strip.replaceChildren();
    const line = (tag, className, attributes) => {
      const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
      found.setAttribute("class", className);
      for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
      this.strip.append(found);
    };
    const points = tokens.flatMap(({ value }, x) => (value === null ? [] : [`${x},${y(value)}`]));
    line("polyline", "curve", { points: points.join(" ") });
    tokens.forEach(({ value, source }, x) => {
      if (source === "nudge" && value !== null) line("line", "by-nudge", { x1: x, x2: x, y1: y(value), y2: 100 });
    });
    line("line", "gamma", { x1: 0, x2: width - 1, y1: y(this.gamma), y2: y(this.gamma) });
    const values = tokens.map((token) => token.value).filter((value) => value !== null);
    const least = values.length ? Math.min(...values).toFixed(2) : "unknown";
    this.strip.setAttribute(
      "aria-label", `Top-1 probability of ${tokens.length} tokens, the least ${least}; gamma is ${this.gamma.toFixed(2)}`);
  }
}

function showTurn(turn) {
  const box = element("div", "turn");
  const answers = element("div", "answers");
  box.append(element("p", "asked", turn.asked), answers);
  byId("log").append(box);
  return turn.answers.map((record) => new AnswerView(answers, record, turn.gamma));
}

function save() {
  try {
    sessionStorage.setItem(STORE, JSON.stringify(turns));
  } catch {
    fail("The conversation is too long to be kept over a reload.");
  }
}

// --- asking

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data: ") && block !== "data: [DONE]") yield JSON.parse(block.slice(6));
    }
  }
}

async function write(view, messages, tokens, signal) {
  const body = {
    model, messages, stream: true, max_tokens: tokens,
    nudge: { mode: view.record.mode, gamma: view.gamma },
  };
  const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (!response.ok) {
    if (response.status === 401) byId("key-form").hidden = false;
    throw new Error((await response.json()).error.message);
  }
  const start = performance.now();
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Error(chunk.error.message);
    const choice = chunk.choices[0];
    if (!choice || !choice.nudge) continue;
    view.record.figures.seconds = (performance.now() - start) / 1000;
    if (choice.finish_reason) {
      view.record.figures = { seconds: choice.nudge.decode_seconds, ended: choice.nudge.finish_reason };
      view.draw();
    } else {
      view.add({ text: choice.delta.content, source: choice.nudge.source, top1: choice.nudge.top1 });
    }
  }
}

function conversation() {
  // What the first of several answers says goes on.
  return turns.flatMap((turn) => [
    { role: "user", content: turn.asked },
    { role: "assistant", content: turn.answers[0].pieces.map((piece) => piece.text).join("") },
  ]);
}

async function ask(asked) {
  const modes = byId("compare").checked ? ["nudged", "base", "nudge"] : ["nudged"];
  const messages = [...conversation(), { role: "user", content: asked }];
  const turn = { asked, gamma: Number(byId("gamma").value), answers: modes.map((mode) => ({ mode, pieces: [], figures: {} })) };
  const views = showTurn(turn);
  turns.push(turn);
  const abort = (running = new AbortController());
  busy(true);
  fail("");
  const found = await Promise.allSettled(
    views.map((view) => write(view, messages, Number(byId("tokens").value), abort.signal)));
  const failed = found.find((one) => one.status === "rejected" && one.reason.name !== "AbortError");
  if (failed) fail(failed.reason.message);
  if (turn.answers.every((answer) => !answer.pieces.length)) {
    turns.splice(turns.indexOf(turn), 1); // nothing was said: the message can be sent again
    byId("log").lastElementChild.remove();
    byId("prompt").value = asked;
  }
  running = null;
  busy(false);
  save();
  byId("detail").textContent = failed ? "" : `Answer ended: ${turn.answers[0].pieces.length} pieces.`;
}

function busy(now) {
  byId("send").disabled = now;
  byId("reset").disabled = now;
  byId("stop").disabled = !now;
}

// --- the page

async function connect() {
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    byId("key-form").hidden = response.status !== 401;
    if (response.status === 401) {
      byId("model").textContent = "needs a key";
      return;
    }
    const record = (await response.json()).data[0];
    model = record.id;
    const { base, nudge } = record.nudge.models;
    byId("model").textContent = `${base.source}, nudged by ${nudge.source}`;
    if (!turns.length) setGamma(record.nudge.gamma);
  } catch (error) {
    fail(`The server cannot be reached: ${error.message}`);
  }
}

function setGamma(value) {
  byId("gamma").value = value;
  byId("gamma-value").textContent = Number(byId("gamma").value).toFixed(2);
}

byId("gamma").addEventListener("input", () => setGamma(byId("gamma").value));
byId("stop").addEventListener("click", () => running && running.abort());
byId("reset").addEventListener("click", () => {
  turns = [];
  byId("log").replaceChildren();
  fail("");
  save();
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value);
  fail("");
  connect();
});
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = byId("prompt").value.trim();
  if (!asked || running) return;
  byId("prompt").value = "";
  ask(asked);
});
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("ask").requestSubmit();
  }
});

try {
  turns = JSON.parse(sessionStorage.getItem(STORE)) || [];
} catch {
  turns = [];
}
if (turns.length) setGamma(turns[turns.length - 1].gamma);
turns.forEach(showTurn);
connect();
