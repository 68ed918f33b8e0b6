// The page as a program serves it: `program.mjs KVCAP PAGE`, a program with the server in it. A capsule and its ancestors are
// shown by `kvcap inspect --web` at once, with the keys that the program was told.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { inspector, launch } from "./browser.mjs";
import { asked, chosen } from "./vectors.mjs";

const [program, own] = process.argv.slice(2);
const home = mkdtempSync(join(tmpdir(), "kvcap-inspect-"));
const browser = await launch();
const given = asked(chosen(Infinity).find(({ name }) => name === "chain_three_deep"));
const write = (name, content) => (writeFileSync(join(home, name), content), join(home, name));
const tip = write("tip.kvcap", given.file.buffer);
const chain = given.ancestors.map(({ buffer }, i) => write(`${i}.kvcap`, buffer));
const key = write("key.pub", given.keys);
// no browser of the user's is opened
const serving = spawn(program, ["inspect", tip, `--web=${own}`, "--trust", key, "--chain", ...chain], { env: { PATH: "" } });
try {
  let url = null;
  for await (const line of createInterface({ input: serving.stderr })) {
    url = line.match(/http:\S+/)?.[0] ?? null;
    if (url !== null) break;
  }
  const { page, asked: urls, faults } = await inspector(browser, url);
  // shown at once, by today's clock, which is not the vector's
  await page.waitForFunction(() => document.getElementById("result").dataset.done);
  assert.match(await page.evaluate(() => document.getElementById("result").dataset.done), /^KVC-4\d\d$/);
  await page.evaluate((now) => {
    document.getElementById("now").value = now;
    document.getElementById("result").dataset.done = "";
    document.getElementById("again").click();
  }, given.now);
  await page.waitForFunction(() => document.getElementById("result").dataset.done);
  assert.equal(await page.evaluate(() => document.getElementById("result").dataset.done), "accepted");
  assert.match(await page.textContent("#verdict"), /It and 2 of its ancestors/);
  const { origin } = new URL(url);
  assert.deepEqual(urls.filter((each) => !each.startsWith(origin) && !each.startsWith("blob:")), []);
  assert.deepEqual(faults.filter((fault) => !/favicon|404/.test(fault)), []);
  console.log("kvcap inspect --web: a chain of three, verified");
} finally {
  serving.kill("SIGTERM");
  await browser.close();
  rmSync(home, { recursive: true });
}
