// Reads a capsule piece by piece and feeds the verifier; holds one piece, whatever the file's length.
"use strict";

const PIECE = 1 << 20;
const utf8 = new TextEncoder();
let ready;
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

/** Feeds one file, a File or a link, as far as it is wanted. */
async function feed(source, token, each) {
  const stream = source instanceof Blob ? source.stream() : await ofLink(source, token);
  for await (const bytes of pieces(stream)) {
    give(bytes);
    const wanted = verifier.feed() === 1;
    each(bytes.length, wanted);
    if (!wanted) return;
  }
  verifier.finish();
}

async function verify({ run, source, ancestors, token, request, registry }) {
  if (registry) {
    give(registry);
    verifier.registry();
  }
  give(utf8.encode(JSON.stringify(request)));
  verifier.begin();
  const begun = performance.now();
  let [taken, told, stage] = [0, 0, "header"];
  const each = (length, wanted) => {
    taken += length;
    if (stage === "header" || !wanted) {
      const now = report();
      stage = now.stage;
      if (stage !== "header") postMessage({ run, report: now });
    }
    if (performance.now() - told > 100) {
      told = performance.now();
      postMessage({ run, taken });
    }
  };
  if (report().refusal === null) await feed(source, token, each);
  // each file that is left may be the ancestor that is wanted next
  const left = [...ancestors];
  for (let i = 0; i < left.length && verifier.ancestor() === 1; ) {
    const wanted = report().wanted;
    await feed(left[i], token, () => {});
    const now = report();
    if (now.wanted === wanted && now.refusal === null) {
      i += 1;
    } else {
      left.splice(i, 1);
      i = 0;
    }
  }
  const seconds = (performance.now() - begun) / 1000;
  const unused = left.map((file) => file.name ?? file);
  postMessage({ run, report: report(), taken, seconds, unused, memory: verifier.memory.buffer.byteLength, done: true });
}

onmessage = async ({ data }) => {
  try {
    if (data.wasm) ready = WebAssembly.instantiate(data.wasm);
    else {
      verifier = (await ready).instance.exports; // it may be asked before it is there
      await verify(data);
    }
  } catch (error) {
    postMessage({ run: data.run, failed: String(error.message ?? error) });
  }
};
