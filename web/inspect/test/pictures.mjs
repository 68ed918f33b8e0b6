// The pictures of docs/inspect again: `pictures.mjs PAGE FOLDER`; an accepted chain and a refusal, light, and the first at 360
// pixels, dark, for who looks.

import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { inspector, launch, verify } from "./browser.mjs";
import { asked, chosen } from "./vectors.mjs";

const [path, folder] = process.argv.slice(2);
const browser = await launch();
const accepted = ({ name }) => name === "chain_three_deep";
for (const [picture, vector, width, colorScheme] of [
  ["accepted", accepted, 900, "light"],
  ["refused", ({ code }) => code === 805, 900, "light"],
  ["narrow", accepted, 360, "dark"],
]) {
  const { page } = await inspector(browser, pathToFileURL(path).href, { viewport: { width, height: 1100 }, colorScheme });
  await verify(page, asked(chosen(Infinity).find(vector)));
  await page.evaluate(() => document.getElementById("result").scrollIntoView());
  await page.screenshot({ path: join(folder, `${picture}.png`) });
}
await browser.close();
