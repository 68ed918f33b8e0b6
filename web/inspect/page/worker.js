// Reads a capsule piece by piece and feeds the verifier; holds one piece, whatever the file's length.
"use strict";

const PIECE = 4 << 20;
const utf8 = new TextEncoder();
let verifier;

function give(bytes) {
  const at = verifier.input(bytes.length);
  new Uint8Array(verifier.memory.buffer, at, bytes.length).set(bytes);
}

function report() {
  const length = verifier.report_len();
  const bytes = new Uint8Array(verifier.memory.buffer, verifier.report_at(), length);
  return JSON.parse(new TextDecoder().decode(bytes.slice()));
}

/** Slices of a file, the next one asked for while this one is checked. */
async function* ofFile(file) {
  const slice = (at) => file.slice(at, at + PIECE).arrayBuffer();
  let next = slice(0);
  for (let at = 0; at < file.size; at += PIECE) {
    const bytes = new Uint8Array(await next);
    next = slice(at + PIECE);
    yield bytes;
  }
}

async function* ofLink(link, token) {
  const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(link, { headers, credentials: "omit", redirect: "error", cache: "no-store" });
  if (!response.ok) throw new Error(`the host answered ${response.status}`);
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (let at = 0; at < value.length; at += PIECE) yield value.subarray(at, at + PIECE);
  }
}

async function verify({ run, file, link, token, request, registry }) {
  if (registry) {
    give(registry);
    verifier.registry();
  }
  give(utf8.encode(JSON.stringify(request)));
  verifier.begin();
  const begun = performance.now();
  let [taken, wanted, told, stage] = [0, report().refusal === null, 0, "header"];
  for await (const bytes of wanted ? (file ? ofFile(file) : ofLink(link, token)) : []) {
    give(bytes);
    wanted = verifier.feed() === 1;
    taken += bytes.length;
    if (stage === "header" || !wanted) {
      const now = report();
      stage = now.stage;
      if (stage !== "header") postMessage({ run, report: now });
    }
    if (!wanted) break;
    if (performance.now() - told > 100) {
      told = performance.now();
      postMessage({ run, taken });
    }
  }
  if (wanted) verifier.finish();
  const seconds = (performance.now() - begun) / 1000;
  postMessage({ run, report: report(), taken, seconds, memory: verifier.memory.buffer.byteLength, done: true });
}

onmessage = async ({ data }) => {
  try {
    if (data.wasm) verifier = (await WebAssembly.instantiate(data.wasm)).instance.exports;
    else await verify(data);
  } catch (error) {
    postMessage({ run: data.run, failed: String(error.message ?? error) });
  }
};
