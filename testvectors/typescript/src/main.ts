// Runs vectors: `beside FILE`, `capsules FOLDER [NAME]`, `codecs FILE`, `sessions FILE`, `signatures FILE`.

import { runBeside } from "./vectors/beside.js";
import { runCapsules } from "./vectors/capsules.js";
import { runCodecs } from "./vectors/codecs.js";
import { runSessions } from "./vectors/sessions.js";
import { runSignatures } from "./vectors/signatures.js";

type Result = { ran: number; failed: number };

const [what = "", path = "", name] = process.argv.slice(2);
const runners = new Map<string, () => Result | Promise<Result>>([
  ["beside", () => runBeside(path)],
  ["capsules", () => runCapsules(path, name)],
  ["codecs", () => runCodecs(path)],
  ["sessions", () => runSessions(path)],
  ["signatures", () => runSignatures(path)],
]);
const runner = runners.get(what);
if (runner === undefined || path === "") {
  console.error("usage: main.js beside FILE | capsules FOLDER [NAME] | codecs FILE | sessions FILE | signatures FILE");
  process.exit(2);
}
const { ran, failed } = await runner();
console.log(`${what} of ${path}: ${ran - failed} passed, ${failed} failed`);
process.exit(failed > 0 || ran === 0 ? 1 : 0);
