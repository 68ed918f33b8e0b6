// Reads a capsule piece by piece and feeds the verifier; holds one piece, whatever the file's length.
"use strict";

const PIECE = 1 << 20;
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

/** The bytes of a stream as they come, in one buffer again and again where the browser can. */
async function* pieces(stream) {
  let [reader, buffer] = [null, null];
  try {
    reader = stream.getReader({ mode: "byob" });
    buffer = new ArrayBuffer(PIECE);
  } catch {
    reader = stream.getReader();
  }
  try {
    for (;;) {
      const { done, value } = await (buffer ? reader.read(new Uint8Array(buffer)) : reader.read());
      if (done) return;
      yield value;
      if (buffer) buffer = value.buffer;
    }
  } finally {
    await reader.cancel();
  }
}

async function ofLink(link, token) {
  const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(link, { headers, credentials: "omit", redirect: "error", cache: "no-store" });
  if (!response.ok) throw new Error(`the host answered ${response.status}`);
  return response.body;
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
  for await (const bytes of wanted ? pieces(file ? file.stream() : await ofLink(link, token)) : []) {
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
