// The page at /: looks at page/state.json every two seconds, draws what it saw, and streams one chat at a time.
// Every text that comes from elsewhere is put in as text, never as HTML. All addresses are relative, so a prefix works.
"use strict";

const EVERY_MS = 2000;
const LEAST_LOOKS = 30;
const MOST_LOOKS = 300;
const SHOWN_LINES = 30;
const at = (id) => document.getElementById(id);
const looks = [];

function put(id, text) {
  at(id).textContent = text;
}

function line(points, most, name) {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const step = 300 / (Math.max(LEAST_LOOKS, points.length) - 1);
  shape.setAttribute("points", points.map((value, i) => `${(i * step).toFixed(1)},${(78 - (76 * value) / most).toFixed(1)}`).join(" "));
  shape.setAttribute("class", name);
  return shape;
}

function chart(id, first, second) {
  const most = Math.max(1, ...first, ...(second || []));
  at(id).replaceChildren(line(first, most, "a"), ...(second ? [line(second, most, "b")] : []));
}

// What grew between one look and the next, a second; 0 where the count began anew.
function rates(of) {
  return looks.slice(1).map((look, i) => {
    const grown = of(look) - of(looks[i]);
    return grown > 0 ? (1000 * grown) / (look.at - looks[i].at) : 0;
  });
}

const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
const last = (values) => (values.length ? values[values.length - 1] : 0);

function show(seen) {
  const phase = at("phase");
  phase.textContent = seen.phase;
  phase.className = `phase ${seen.phase}`;
  put("model", seen.model || "nimdrum");
  put("line", seen.line);
  put("since", `for ${number(seen.for_sec)} s${seen.restarts ? `, ${seen.restarts} restarts` : ""}`);
  put("version", `nimdrum ${seen.version}`);
  at("trouble").hidden = seen.phase === "RUNNING";
  put("cause", seen.cause || "");
  put("log", seen.last_lines.slice(-SHOWN_LINES).join("\n"));
  const made = rates((look) => look.tokens);
  const rows = rates((look) => look.answered + look.failed);
  chart("rows", rows);
  chart("made", made);
  chart("queue", looks.map((look) => look.running || 0), looks.map((look) => look.waiting || 0));
  chart("window", looks.map((look) => look.in_flight || 0), looks.map((look) => look.window || 0));
  put("rows-now", number(last(rows)));
  put("tokens-now", number(last(made)));
  put("queue-now", seen.running === null ? "not told" : `${seen.running}, ${seen.waiting}`);
  put("window-now", seen.window === null ? "no rows yet" : `${seen.in_flight}, ${seen.window}`);
  const counts = [["answered", seen.answered], ["failed", seen.failed], ...Object.entries(seen.errors)];
  at("errors").replaceChildren(...counts.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => {
      const made = document.createElement("td");
      made.textContent = typeof cell === "number" ? number(cell) : cell;
      return made;
    }));
    return row;
  }));
}

async function look() {
  try {
    const answer = await fetch("page/state.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    const seen = { ...(await answer.json()), at: Date.now() };
    looks.push(seen);
    looks.splice(0, looks.length - MOST_LOOKS);
    show(seen);
  } catch (error) {
    put("phase", "this server does not answer");
    at("phase").className = "phase lost";
  }
  setTimeout(look, EVERY_MS);
}

let asking = null;

// The texts of a stream's events, as they come; an error among them is thrown.
async function* pieces(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const text of lines) {
      if (!text.startsWith("data: ") || text.startsWith("data: [DONE]")) continue;
      const event = JSON.parse(text.slice(6));
      if (event.error) throw new Error(event.error.message);
      const choice = (event.choices || [])[0];
      if (choice && choice.delta && choice.delta.content) yield choice.delta.content;
    }
  }
}

async function ask(event) {
  event.preventDefault();
  asking = new AbortController();
  at("send").disabled = true;
  at("stop").disabled = false;
  put("answer", "");
  put("told", "...");
  const began = performance.now();
  let first = 0;
  try {
    const body = { messages: [{ role: "user", content: at("prompt").value }], max_tokens: Number(at("tokens").value), stream: true };
    const answer = await fetch("v1/chat/completions", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: asking.signal,
    });
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new Error((said.error && said.error.message) || said.message || `HTTP ${answer.status}`);
    }
    for await (const text of pieces(answer)) {
      first = first || performance.now();
      at("answer").append(text);
    }
    const seconds = (ms) => (ms / 1000).toFixed(2);
    put("told", first ? `first words after ${seconds(first - began)} s, all after ${seconds(performance.now() - began)} s` : "The answer has no text.");
  } catch (error) {
    put("told", error.name === "AbortError" ? "Stopped." : `It broke off: ${error.message}`);
  }
  at("send").disabled = false;
  at("stop").disabled = true;
}

at("ask").addEventListener("submit", ask);
at("stop").addEventListener("click", () => asking && asking.abort());
look();
