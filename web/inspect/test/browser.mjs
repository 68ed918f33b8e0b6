// A Chromium without a profile, and a page of the inspector in it.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });

/** The page, and every address that it has asked for. */
export async function inspector(browser, address, options = {}) {
  const context = await browser.newContext(options);
  const asked = [];
  context.on("request", (request) => asked.push(request.url()));
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(address);
  return { page, asked, faults };
}

/** Fills in what is asked for, gives the file, and waits for the verdict. */
export async function verify(page, { file, ancestors, now, keys, registry, root, audience, subject, tenant }) {
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
  for (const [id, value] of Object.entries({ now, keys, root, audience, subject, tenant })) await page.fill(`#${id}`, value ?? "");
  await page.setInputFiles("#registry", registry ?? []);
  await page.evaluate(() => forget());
  await page.setInputFiles("#ancestors", ancestors ?? []);
  await page.evaluate(() => (document.getElementById("result").dataset.done = ""));
  await page.setInputFiles("#file", file);
  await page.waitForFunction(() => document.getElementById("result").dataset.done !== "", null, { timeout: 120_000 });
  return page.evaluate(() => document.getElementById("result").dataset.done);
}

/** A host on this machine with the page and one capsule. */
export async function host(pagePath, capsule) {
  const server = createServer((request, response) => {
    const files = { "/inspect": [readFileSync(pagePath), "text/html"], "/a.kvcap": [capsule, "application/vnd.kvcap"] };
    const [bytes, type] = files[request.url] ?? [];
    response.writeHead(bytes ? 200 : 404, { "content-type": type ?? "text/plain" });
    response.end(bytes);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}
