// The page: what is asked for, and what the verifier found. No text of a capsule is ever read as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const rules = JSON.parse($("rules").textContent);

// --- the worker, which verifies

const worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" })));
const wasm = Uint8Array.from(atob($("wasm").textContent), (c) => c.charCodeAt(0));
worker.postMessage({ wasm: wasm.buffer }, [wasm.buffer]);
let run = 0;
let subject = null; // what is verified: { source, ancestors, token }, each a File or a link

async function start() {
  if (subject === null) return;
  run += 1;
  const text = (id) => $(id).value.trim();
  const registry = $("registry").files[0];
  const request = { keys: $("keys").value, root: text("root"), audience: text("audience"), subject: text("subject"), tenant: text("tenant") };
  request.now = text("now") === "" ? Math.floor(Date.now() / 1000) : Number(text("now"));
  $("result").hidden = false;
  $("again").disabled = false;
  $("progress").hidden = false;
  $("progress").removeAttribute("value");
  $("result").dataset.done = "";
  show($("verdict"), el("p", { class: "busy" }, "Verifying…"));
  show($("report"));
  const ancestors = [...(subject.ancestors ?? []), ...$("ancestors").files];
  worker.postMessage({ run, ...subject, ancestors, request, registry: registry && new Uint8Array(await registry.arrayBuffer()) });
}

worker.onmessage = ({ data }) => {
  if (data.run !== run) return;
  if (data.failed !== undefined) {
    $("progress").hidden = true;
    show($("verdict"), verdict("bad", "It could not be read", el("p", {}, data.failed)));
    $("result").dataset.done = "failed";
    return;
  }
  if (data.report) {
    length = data.report.length ?? 0;
    render(data);
  }
  if (data.taken !== undefined && length > 0) {
    $("progress").value = Math.min(data.taken / length, 1);
  }
  if (data.done) {
    $("progress").hidden = true;
    $("result").dataset.seconds = data.seconds;
    $("result").dataset.memory = data.memory;
    $("result").dataset.done = data.report.refusal ? `KVC-${data.report.refusal.code}` : "accepted";
  }
};
let length = 0;

// --- what is asked for

/** Nothing is verified any more. */
function forget() {
  subject = null;
  run += 1;
}

function take(file) {
  subject = { source: file };
  $("hint").textContent = `${file.name}, ${bytes(file.size)}`;
  start();
}

$("file").addEventListener("change", () => $("file").files[0] && take($("file").files[0]));
$("ancestors").addEventListener("change", () => start());
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const file = event.dataTransfer.files[0];
  if (file) take(file);
});

/** A link is followed on this host alone; those behind it are the ancestors'. */
function follow() {
  const [link, ...ancestors] = $("link").value.split(" ").map((each) => new URL(each, location.href));
  if ([link, ...ancestors].some(({ origin }) => origin !== location.origin)) {
    $("result").hidden = false;
    show($("verdict"), verdict("bad", "Not fetched", el("p", {}, "A link is followed on this host alone; drop the file instead.")));
    return;
  }
  subject = { source: link.href, ancestors: ancestors.map(({ href }) => href), token: $("token").value };
  $("hint").textContent = link.pathname;
  start();
}
if (location.protocol.startsWith("http")) {
  $("linked").hidden = false;
  $("follow").addEventListener("click", follow);
  $("link").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    follow();
  });
  if (location.hash.startsWith("#/")) {
    $("link").value = location.hash.slice(1).replaceAll("&", " ");
    addEventListener("DOMContentLoaded", follow); // once all of this script has run
  }
}

// --- what was found

function render({ report, done, unused }) {
  const { refusal, outline, claims } = report;
  show($("verdict"), ...headline(report, done));
  const parts = [];
  if (refusal) parts.push(why(refusal));
  if (done && !refusal) parts.push(leftOut(report.unchecked));
  if (outline) parts.push(picture(report));
  if (claims) parts.push(forWhom(claims, report));
  if (outline) parts.push(of(outline), lineage(outline, report, unused ?? []), recipients(outline), streams(outline));
  show($("report"), ...parts);
}

function headline({ refusal, stage, checked, signed, length, chain }, done) {
  if (refusal) {
    const told = signed ? "Its header carries a trusted signature; what follows is what it states." : "What follows is what the file says of itself: nobody vouches for it.";
    return [verdict("bad", `Refused: KVC-${refusal.code}`, el("p", {}, sentence(refusal.what), where(refusal)), el("p", {}, stage === "trust" ? "Whom to trust could not be loaded." : told))];
  }
  if (!done) return [verdict("busy", "The header is verified", el("p", {}, "Its body is being checked."))];
  const members = chain.length > 1 ? `It and ${chain.length - 1} of its ancestors are signed by trusted keys. ` : "A trusted key has signed it. ";
  return [verdict("good", "Verified", el("p", {}, `${members}All ${checked.chunks.toLocaleString("en")} chunks and ${bytes(length)} are as signed.`))];
}

function verdict(kind, title, ...more) {
  return el("div", { class: `verdict ${kind}` }, el("h2", {}, title), ...more);
}

function where({ place, expected, found }) {
  const parts = [];
  if (place) parts.push(` (${place})`);
  if (expected !== null && found !== null) parts.push(`: expected ${expected}, found ${found}`);
  return `${parts.join("")}.`;
}

/** The code's meaning and the rules that give it, as the specification has them. */
function why({ code }) {
  const { name, meaning } = rules.codes[code] ?? { name: "", meaning: "" };
  const list = (rules.rules[code] ?? []).map(({ id, page, text }) => el("li", {}, el("strong", {}, id), ` of ${page}: `, ...prose(text)));
  const given = list.length === 0 ? [] : [el("details", { open: list.length < 4 }, el("summary", {}, list.length === 1 ? "The rule that gives it" : `The ${list.length} rules that give it`), el("ul", { class: "rules" }, ...list))];
  return block("Why", el("p", {}, `KVC-${code} `, el("code", {}, name), `: ${meaning}.`), ...given);
}

const NOT_CHECKED = {
  model: "it was compared with no model",
  prompt: "it was compared with no prompt",
  tenant: "no tenant was stated, or it names none",
  subject: "no subject was stated, or it names none",
  session: "which checkpoint it is was not stated",
  ancestors: "it continues other capsules, which are not here",
  freshness: "nothing is remembered: it may have been used, or replaced by a newer one",
  "runtime-version": "no version of the runtime was stated, or it states none",
  "context-size": "it does not say to which context length its runtime was set",
  "speculative-prefill": "its prefill was speculative or skipped tokens",
  "multi-token-prediction": "multi-token prediction was active",
  "quantized-attention": "attention ran on a quantized cache",
  body: "its body was not read",
};

function leftOut(names) {
  return block("Not checked", el("ul", { class: "unchecked" }, ...names.map((name) => el("li", {}, el("code", {}, name), `: ${NOT_CHECKED[name] ?? ""}`))));
}

const time = (seconds) => {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.valueOf()) ? String(seconds) : `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
};

function forWhom(claims, { signed }) {
  return block(signed ? "For whom, until when" : "For whom, until when: claims, unverified", facts({
    Issuer: claims.issuer,
    "Signing key": code(claims.key),
    Audience: claims.audience,
    Tenant: claims.tenant,
    Subject: claims.subject,
    Scope: claims.scope,
    Issued: time(claims.issued),
    "Not before": claims.not_before === claims.issued ? null : time(claims.not_before),
    Expires: time(claims.expires),
    "Renewed at most until": time(claims.renew_until),
    Capsule: code(claims.id),
    Use: claims.single_use ? "once" : null,
    Number: claims.sequence,
    Session: claims.session && `${claims.session.id}, version ${claims.session.version}, event ${claims.session.cursor}`,
  }));
}

function of(o) {
  const rope = o.rope.map((r) => {
    const extra = r.parameters.map(([name, value]) => `${name} ${Array.isArray(value) ? `${value.length} numbers` : value}`);
    return `${r.layers} layers: theta ${r.theta.toLocaleString("en")}, ${r.dims} dims, ${r.pairing}, scaling ${[r.scaling, ...extra].join(", ")}; keys sealed ${r.rotated ? "after" : "before"} rotation${r.offset ? `, offset ${r.offset}` : ""}`;
  });
  return block("Of what", facts({
    Model: el("span", {}, o.model.label || "unnamed", " ", code(o.model.id)),
    Weights: code(o.model.weights),
    Configuration: code(o.model.config),
    Adapters: o.adapters.length ? o.adapters.map((a) => `${a.digest.slice(0, 16)}… × ${a.factor}`).join(", ") : null,
    Tokenizer: el("span", {}, [o.tokenizer.version, o.tokenizer.pre_tokenizer].filter(Boolean).join(", "), " ", code(o.tokenizer.vocabulary)),
    Runtime: `${o.runtime.name} ${o.runtime.version}`,
    "State format": o.runtime.format,
    Layout: o.facts.map(([name, value]) => `${name} = ${value}`).join(", ") || null,
    "Rotary embedding": rope.length ? el("span", {}, ...rope.map((line) => el("span", { class: "line" }, line))) : "none",
    Positions: `${o.positions[0].toLocaleString("en")} to ${o.positions[1].toLocaleString("en")}`,
    Prompt: o.prefix === "none" ? "not named" : `${o.prefix_tokens.toLocaleString("en")} tokens, ${o.prefix} commitment`,
    Layers: `${o.layers}${o.stateless ? `, ${o.stateless} without state` : ""}`,
    "Context length": o.context_length || "not stated",
    "Unusual capture": o.capture.join(", ") || null,
    Encryption: o.suite,
  }));
}

function lineage(o, { lineage, chain, wanted }, unused) {
  const ancestors = chain.slice(1).map(({ id, positions, expires }, i) => [
    `Ancestor ${i + 1}`,
    el("span", {}, "verified: capsule ", code(id), `, positions ${positions[0].toLocaleString("en")} to ${positions[1].toLocaleString("en")}, expires ${time(expires)}`),
  ]);
  return block("Lineage", facts({
    "This capsule": code(lineage ?? ""),
    Continues: o.parent ? code(o.parent) : "none: it is whole by itself",
    "Base image": o.base ? "yes" : null,
    ...Object.fromEntries(ancestors),
    "Not here": wanted ? el("span", {}, "the ancestor ", code(wanted)) : null,
    "No ancestor of it": unused.join(", ") || null,
  }));
}

function recipients(o) {
  return block("Who can open it", facts(Object.fromEntries(o.recipients.map(([id, kind], i) => [`Recipient ${i + 1}`, el("span", {}, `${kind}, key `, code(id))]))));
}

// --- the file, to scale

const NS = "http://www.w3.org/2000/svg";
const SECTION = "section";

function svg(name, attributes, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const label = (s) => (s.bank ? `${s.kind} ${s.bank[0]}${s.bank[1] ? `.${s.bank[1]}` : ""}` : s.name);

/** The whole file in one bar: what stands before the body, then each stream, as wide as its bytes. */
function picture({ outline, length }) {
  const body = outline.streams.reduce((sum, s) => sum + s.encoded, 0);
  const pieces = [{ kind: "header", text: "header and tables", size: length - body }, ...outline.streams.map((s) => ({ kind: s.kind, text: label(s), size: s.encoded }))];
  const width = 1000;
  let at = 0;
  const bars = pieces.map(({ kind, text, size }) => {
    const wide = (size / length) * width;
    const bar = svg("rect", { x: at, y: 0, width: wide, height: 56, class: `k-${kind}` }, svg("title", {}, `${text}: ${bytes(size)}`));
    at += wide;
    return bar;
  });
  const sums = new Map();
  for (const { kind, size } of pieces) {
    const sum = sums.get(kind) ?? { count: 0, size: 0 };
    sums.set(kind, { count: sum.count + 1, size: sum.size + size });
  }
  const legend = [...sums].map(([kind, { count, size }]) =>
    el("li", {}, el("span", { class: `swatch k-${kind}` }), kind === "header" ? `header and tables, ${bytes(size)}` : `${count} × ${kind}, ${bytes(size)} (${((100 * size) / length).toFixed(1)} %)`));
  const said = [...sums].map(([kind, { count, size }]) => `${count} ${kind} ${bytes(size)}`).join(", ");
  const plain = outline.streams.reduce((sum, s) => sum + s.plain, 0);
  return block("The file, to scale", svg("svg", { viewBox: `0 0 ${width} 56`, preserveAspectRatio: "none", role: "img", class: pieces.length > 200 ? "bar fine" : "bar", "aria-label": `The file to scale: ${said}` }, ...bars), el("ul", { class: "legend" }, ...legend),
    el("p", {}, `${bytes(length)} in all; ${bytes(plain)} of state in ${bytes(body)}${plain ? ` (${((100 * body) / plain).toFixed(1)} %)` : ""}.`));
}

const SHOWN = 64;

function streams(o) {
  const most = Math.max(1, ...o.streams.map((s) => s.encoded));
  const row = (s) => {
    const share = svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", class: "share", "aria-hidden": "true" }, svg("rect", { x: 0, y: 0, width: (100 * s.encoded) / most, height: 8, class: `k-${s.kind}` }));
    const codec = s.asked ? `${s.codec} (${s.asked} was asked for)` : s.codec;
    return el("tr", {}, el("th", { scope: "row" }, label(s)), el("td", {}, s.kind === SECTION ? "" : `${s.dtype} ${s.shape}`), el("td", {}, s.rows), el("td", {}, s.kind === SECTION ? "" : codec), el("td", { class: "number" }, bytes(s.plain)), el("td", { class: "number" }, bytes(s.encoded)), el("td", {}, share));
  };
  const head = el("tr", {}, ...["Stream", "Type, shape", "Positions", "Codec", "Plain", "Sealed", ""].map((name) => el("th", { scope: "col" }, name)));
  const bodyRows = el("tbody", {}, ...o.streams.slice(0, SHOWN).map(row));
  const parts = [el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Streams" }, el("table", {}, el("thead", {}, head), bodyRows))];
  if (o.streams.length > SHOWN) {
    const more = el("button", { type: "button" }, `Show all ${o.streams.length.toLocaleString("en")}`);
    more.addEventListener("click", () => {
      bodyRows.append(...o.streams.slice(SHOWN).map(row));
      more.remove();
    });
    parts.push(more);
  }
  return block(`Streams, bank by bank (${o.streams.length.toLocaleString("en")})`, ...parts);
}

// --- small pieces

function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(key, "");
    else if (value !== false) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const show = (node, ...children) => node.replaceChildren(...children);
const code = (text) => el("code", {}, text);
const block = (title, ...children) => el("section", { class: "block" }, el("h3", {}, title), ...children);
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Text with `code` in backquotes, as the specification is written. */
function prose(text) {
  return text.split("`").map((part, i) => (i % 2 ? code(part) : part));
}

function facts(entries) {
  const rows = Object.entries(entries).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function bytes(n) {
  if (n < 1024) return `${n} bytes`;
  const unit = Math.min(Math.floor(Math.log2(n) / 10), 4);
  return `${(n / 1024 ** unit).toPrecision(4).replace(/\.?0+$/, "")} ${["", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
