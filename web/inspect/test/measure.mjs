// What the page takes for a capsule: `measure.mjs PAGE CAPSULE KEY.pub [ROUNDS]`; seconds from the first byte to the verdict,
// bytes for each, and the verifier's memory, a line a round and then the median.

import { readFileSync, statSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { inspector, launch, verify } from "./browser.mjs";

const [page, file, key, rounds = "3"] = process.argv.slice(2);
const megabytes = statSync(file).size / 1e6;
const browser = await launch();
const speeds = [];
for (let round = 0; round < Number(rounds); round++) {
  const own = await inspector(browser, pathToFileURL(page).href);
  const done = await verify(own.page, { file, keys: readFileSync(key, "utf8") });
  const { seconds, memory } = await own.page.evaluate(() => ({ ...document.getElementById("result").dataset }));
  if (done !== "accepted") throw new Error(done);
  const speed = megabytes / Number(seconds);
  speeds.push(speed);
  console.log(`${Number(seconds).toFixed(2)} s, ${speed.toFixed(0)} MB/s, the verifier holds ${(Number(memory) / 1e6).toFixed(1)} MB`);
  await own.page.context().close();
}
await browser.close();
console.log(`median of ${speeds.length}: ${speeds.sort((a, b) => a - b)[Math.floor(speeds.length / 2)].toFixed(0)} MB/s of ${megabytes.toFixed(0)} MB`);
