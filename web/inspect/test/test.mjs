// The inspector over the vectors: `test.mjs PAGE [--short]`; prints what disagrees and a closing count.

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { host, inspector, launch, verify } from "./browser.mjs";
import { asked, chosen, content } from "./vectors.mjs";

const [path, short] = process.argv.slice(2);
const address = pathToFileURL(path).href;
const browser = await launch();
let [passed, failed] = [0, 0];

async function test(name, body) {
  try {
    await body();
    passed += 1;
  } catch (error) {
    failed += 1;
    console.log(`${name}: ${error.message}`);
  }
}

const vectors = chosen(short === "--short" ? 12 : 80);
assert(short === "--short" || vectors.length >= 40, `${vectors.length} vectors`);
const own = await inspector(browser, address);
for (const vector of vectors) {
  await test(vector.name, async () => {
    const done = await verify(own.page, asked(vector));
    assert.equal(done, vector.code === 0 ? "accepted" : `KVC-${vector.code}`);
    if (vector.code === 0) {
      assert.match(await own.page.textContent("#verdict"), /^Verified/);
      assert.match(await own.page.textContent(".unchecked"), /model.*freshness/s);
    } else {
      const why = await own.page.textContent("#report .block");
      assert.match(why, new RegExp(`KVC-${vector.code} [a-z]+\\.[a-z_]+: .`), "the code's meaning");
    }
  });
}

await test("nothing leaves the page", async () => {
  const outside = own.asked.filter((url) => url !== address && !url.startsWith("blob:"));
  assert.deepEqual(outside, []);
  assert.deepEqual(own.faults, []);
});

await test("what it shows of a capsule", async () => {
  const base = chosen(Infinity).find(({ name }) => name === "base");
  await verify(own.page, asked(base));
  const text = await own.page.textContent("#report");
  for (const word of ["prefill.example.com", "mlx-lm", "bhtd", "theta", "keyed commitment", "key 0", "value 0", "tokens", "Recipient 1"]) {
    assert.ok(text.includes(word), word);
  }
  const bars = await own.page.locator(".bar rect").evaluateAll((all) => all.map((bar) => Number(bar.getAttribute("width"))));
  assert.equal(bars.length, 5);
  assert.ok(Math.abs(bars.reduce((sum, width) => sum + width, 0) - 1000) < 0.01, "to scale");
  assert.ok(bars[1] / bars[2] === 2, "keys of 8,320 bytes beside values of 4,160");
});

await test("a capsule's text is no markup", async () => {
  assert.equal(await own.page.evaluate(() => typeof globalThis.injected), "undefined");
  assert.equal(await own.page.locator("#report script, #report img, #report iframe").count(), 0);
});

await test("a chain is verified whole, and what is missing or strange is named", async () => {
  const three = chosen(Infinity).find(({ name }) => name === "chain_three_deep");
  const given = asked(three);
  assert.equal(await verify(own.page, { ...given, ancestors: given.ancestors.toReversed() }), "accepted");
  assert.match(await own.page.textContent("#verdict"), /It and 2 of its ancestors/);
  const whole = await own.page.textContent("#report");
  assert.match(whole, /Ancestor 2verified/);
  assert.doesNotMatch(whole, /ancestors: it continues/);
  const base = asked(chosen(Infinity).find(({ name }) => name === "base"));
  assert.equal(await verify(own.page, { ...given, ancestors: [base.file, given.ancestors[0]] }), "accepted");
  const partly = await own.page.textContent("#report");
  assert.match(partly, /ancestors: it continues other capsules/);
  assert.match(partly, /Not herethe ancestor [0-9a-f]{64}/);
  assert.ok(partly.includes(`No ancestor of it${base.file.name}`));
});

await test("without a key the refusal shows claims as claims", async () => {
  const base = chosen(Infinity).find(({ name }) => name === "base");
  assert.equal(await verify(own.page, { ...asked(base), keys: "" }), "KVC-301");
  const text = await own.page.textContent("#result");
  assert.match(text, /nobody vouches for it/);
  assert.match(text, /claims, unverified/);
});

await test("by keyboard, and as a screen reader finds it", async () => {
  const { page } = await inspector(browser, address);
  const reached = [];
  for (let i = 0; i < 6; i++) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.localName));
  }
  assert.deepEqual(reached, ["file", "ancestors", "keys", "registry", "root", "summary"]);
  const unnamed = await page.locator("input, textarea, button").evaluateAll((all) => all.filter((field) => !field.labels?.length && !field.textContent).map((field) => field.id));
  assert.deepEqual(unnamed, []);
  await verify(page, asked(chosen(Infinity).find(({ name }) => name === "base")));
  const said = await page.locator("#result").ariaSnapshot();
  assert.match(said, /status:\n.*heading "Verified"/);
  assert.match(said, /img "The file to scale: .*key.*value/);
  assert.match(said, /rowheader "key 0"/);
});

for (const width of [360, 768, 1920]) {
  await test(`${width} pixels wide, light and dark`, async () => {
    for (const colorScheme of ["light", "dark"]) {
      const { page } = await inspector(browser, address, { viewport: { width, height: 900 }, colorScheme });
      await verify(page, asked(chosen(Infinity).find(({ name }) => name === "base")));
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width, "scrolls sideways");
    }
  });
}

await test("a link is followed on its own host alone", async () => {
  const base = chosen(Infinity).find(({ name }) => name === "base");
  const serving = await host(path, content(base.file));
  try {
    const { page, asked: urls, faults } = await inspector(browser, `${serving.address}/inspect`);
    await page.fill("#keys", asked(base).keys);
    await page.evaluate((now) => (document.getElementById("now").value = now), asked(base).now);
    await page.fill("#link", "/a.kvcap");
    await page.click("#follow");
    await page.waitForFunction(() => document.getElementById("result").dataset.done === "accepted");
    await page.fill("#link", "https://example.com/a.kvcap");
    await page.click("#follow");
    assert.match(await page.textContent("#verdict"), /this host alone/);
    await assert.rejects(page.evaluate(() => fetch("https://example.com/")));
    const outside = urls.filter((url) => !url.startsWith(serving.address) && !url.startsWith("blob:"));
    assert.deepEqual(outside, []);
    assert.ok(faults.every((fault) => /Content Security Policy|favicon|404/.test(fault)), faults.join());
  } finally {
    serving.close();
  }
});

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
