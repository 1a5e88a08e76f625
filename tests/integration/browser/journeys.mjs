// What a reviewer does, in a real browser. Prints one JSON object: what was seen, and whatever was wrong.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [modules, chromium_path, base, key, shots, extra] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const found = { violations: [], console: [], foreign: [], overflow: [], dialogs: [], journey: {}, keyboard: {} };
const browser = await chromium.launch({
  executablePath: chromium_path,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

async function opened(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (said) => { if (["error", "warning"].includes(said.type())) found.console.push(said.text()); });
  page.on("pageerror", (error) => found.console.push(String(error)));
  page.on("request", (request) => { if (!request.url().startsWith(base)) found.foreign.push(request.url()); });
  page.on("dialog", (dialog) => { found.dialogs.push(dialog.message()); dialog.dismiss(); });
  return page;
}

async function signed_in(page) {
  await page.goto(`${base}/review`);
  await page.fill("input[name=key]", key);
  await page.click("button:has-text('Sign in')");
  await page.waitForURL(`${base}/review`);
}

// -- a reviewer's way: from nothing to a decision
{
  const page = await opened({ viewport: { width: 1280, height: 900 } });
  await page.goto(`${base}/review?window=all+time`);
  found.journey.asked_to_sign_in = page.url();
  await page.fill("input[name=key]", key);
  await page.keyboard.press("Enter");
  await page.waitForSelector("table.rows");
  found.journey.back_where_they_were = page.url();
  await page.goto(`${base}/?window=all+time`);
  found.journey.overview = await page.textContent("h1");
  if (shots) await page.screenshot({ path: `${shots}/overview.png` });
  await page.click("nav >> text=Queue");
  await page.selectOption("select[name=window]", "all time");
  await page.selectOption("select[name=failure_type]", "hallucination");
  await page.click("button:has-text('Show')");
  found.journey.filtered = new URL(page.url()).searchParams.get("failure_type");
  await page.click("table.rows a.main >> nth=0");
  found.journey.group = await page.textContent("h1");
  await page.selectOption("form.review select[name=state]", "triaged");
  await page.fill("input[name=assignee]", "kim");
  await page.fill("textarea[name=note]", "looked at <b>it</b>");
  await page.click("form.review button");
  await page.waitForSelector("[role=status]");
  found.journey.history = await page.textContent("ol.history");
  await page.click("table.rows a.main >> nth=0");
  await page.waitForSelector("section.conversation");
  found.journey.capture = await page.textContent("h1");
  found.journey.turns = await page.locator(".turn").count();
  if (shots) await page.screenshot({ path: `${shots}/capture.png` });
  await page.fill("textarea[name=expected_output]", "The right answer.");
  await page.click("form.review button");
  await page.waitForSelector("[role=status]");
  found.journey.expected = await page.inputValue("textarea[name=expected_output]");
  await page.click("button:has-text('Sign out')");
  await page.goto(`${base}/review`);
  found.journey.signed_out = page.url();
  await page.context().close();
}

// -- the same with the keyboard alone
{
  const page = await opened({ viewport: { width: 1280, height: 900 } });
  await signed_in(page);
  await page.goto(`${base}/review?window=all+time`);
  await page.keyboard.press("Tab");
  found.keyboard.first = await page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("Enter");
  for (let tabs = 0; tabs < 60; tabs += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.matches("table.rows a.main"))) break;
  }
  found.keyboard.outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  await page.keyboard.press("Enter");
  await page.waitForSelector("form.review");
  found.keyboard.group = new URL(page.url()).pathname;
  await page.focus("form.review select[name=state]");
  await page.keyboard.press("i"); // "ignored" by its first letter
  for (let tabs = 0; tabs < 4; tabs += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.matches("form.review button"))) break;
  }
  await page.keyboard.press("Enter");
  await page.waitForSelector("[role=status]");
  found.keyboard.state = await page.inputValue("form.review select[name=state]");
  await page.context().close();
}

// -- every page, light, dark and on a phone: nobody is kept out, nothing sticks out
const phone = { width: 360, height: 780 };
for (const [mode, viewport] of [["light", { width: 1280, height: 900 }], ["dark", { width: 1280, height: 900 }], ["phone", phone]]) {
  const page = await opened({ viewport, colorScheme: mode === "dark" ? "dark" : "light", bypassCSP: true });
  await page.goto(`${base}/sign-in`);
  const places = ["/sign-in", "/?window=all+time", "/review?window=all+time", "/review/captures?window=all+time", "/review/runs",
    "/review/health", "/review/captures/none", "/review?env=nowhere", ...extra.split(" ").filter(Boolean)];
  await signed_in(page);
  for (const list of ["/groups?limit=50", "/captures?limit=100"]) {
    const answer = await page.request.get(`${base}${list}`, { headers: { "X-API-Key": key, Cookie: "" } });
    const rows = await answer.json();
    for (const group of (rows.groups ?? []).slice(0, 2)) places.push(`/review/groups/${group.signature}`);
    for (const capture of (rows.captures ?? []).slice(0, 4)) places.push(`/review/captures/${encodeURIComponent(capture.trace_id)}`);
  }
  found.places = places;
  if (mode === "light") { // once more as anybody has it: with the content security policy, which axe cannot do with
    const strict = await opened({ viewport });
    await signed_in(strict);
    for (const place of places) await strict.goto(base + place);
    await strict.context().close();
  }
  for (const place of places) {
    await page.goto(base + place);
    await page.evaluate(axe);
    const report = await page.evaluate(() => axe.run());
    for (const one of report.violations) found.violations.push({ mode, place, id: one.id, html: one.nodes[0].html.slice(0, 200) });
    const out = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (out > 0) found.overflow.push({ mode, place, out });
    found.scripts = (found.scripts ?? 0) + (await page.locator("script").count());
  }
  await page.context().close();
}

await browser.close();
process.stdout.write(JSON.stringify(found));
