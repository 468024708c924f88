// What page.mjs, reading.mjs and ohif.mjs share: a browser, checks that print a line each, series of a server to look at.
//
//   PACS_CHROMIUM   the browser; default: /usr/bin/chromium
//   NODE_PATH       where playwright-core is, where `npm ci` was not run beside this file

import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

// A module's imports don't look at NODE_PATH, but `require` does.
const { chromium } = createRequire(import.meta.url)('playwright-core');

const [, program, base, out] = process.argv;
if (!base || !out) {
  console.error(`usage: node ${program} BASE_URL OUT_DIR`);
  process.exit(2);
}
export const BASE = new URL(base);
mkdirSync(out, { recursive: true });

let failed = 0;

/** Runs a check: one line, and the others go on. */
export async function check(name, run) {
  try {
    const more = await run();
    console.log(`ok      ${name}${typeof more === 'string' ? `: ${more}` : ''}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${String(error.message ?? error).split('\n').slice(0, 4).join(' | ')}`);
  }
}

export function must(holds, words) {
  if (!holds) throw new Error(words);
}

/** Opens a browser, hands it to `run`, and ends the process: 0 when all checks held. */
export async function drive(run) {
  const browser = await chromium.launch({
    executablePath: process.env.PACS_CHROMIUM || '/usr/bin/chromium',
    // Chromium's own renderer in place of a graphics card, which OHIF draws with.
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
      '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
  });
  try {
    await run(browser);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  the run: ${error.stack}`);
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
}

/** A page of its own profile that notes what goes wrong, and what is asked of other servers. */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(String(error)));
  page.on('console', (message) => {
    const words = message.text();
    if (message.type() === 'error' && !/^Failed to load resource/.test(words)) page.wrong.push(words);
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (/^http/.test(url.protocol) && url.host !== BASE.host) page.wrong.push(`asked ${url.host}`);
  });
  return page;
}

let shots = 0;
export async function shot(page, name) {
  shots += 1;
  await page.screenshot({ path: join(out, `${String(shots).padStart(2, '0')}-${name}.png`) });
}

/** Tabs on until what is focused fits. */
export async function tabTo(page, fits) {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await page.evaluate(fits)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error('nothing of that kind is reached by Tab');
}

/** Nothing is wider than the screen, and nothing too small for a finger. */
export async function fits(page) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  must(wide <= 0, `${wide} px too wide`);
  const small = await page.evaluate(() => [...document.querySelectorAll('button, select, input:not([type=range])')]
    .filter((element) => element.checkVisibility() && element.getBoundingClientRect().height && !element.closest('thead'))
    .map((element) => [element.textContent || element.name, element.getBoundingClientRect()])
    .filter(([, { width, height }]) => height < 43.5 || width < 43.5).map(([name, { width, height }]) => `${name} ${width}x${height}`));
  must(!small.length, `too small to touch: ${small.join('; ')}`);
}

/** A DICOMweb answer, as DICOM JSON. */
export async function ask(path) {
  const answer = await fetch(new URL(`dicom-web/${path}`, BASE), { headers: { Accept: 'application/dicom+json' } });
  if (answer.status === 204) return [];
  must(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}

export const value = (set, tag) => set?.[tag]?.Value?.[0];

/** Series of images with their metadata, the ones with the most instances first. */
async function everySeries() {
  const found = [];
  for (const set of await ask('series?limit=1000&includefield=00201209,00080060,0020000D')) {
    const [study, series] = [value(set, '0020000D'), value(set, '0020000E')];
    if (!study || !series) continue;
    const metadata = await ask(`studies/${study}/series/${series}/metadata`).catch(() => []);
    if (metadata.length && metadata.every((each) => value(each, '00280010'))) found.push({ study, series, metadata, first: metadata[0] });
  }
  return found.sort((a, b) => b.metadata.length - a.metadata.length);
}

const UNCOMPRESSED = ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.2', '1.2.840.10008.1.2.1.99'];

/** A frame as it is kept: its transfer syntax; nothing where there is none. */
async function syntax({ study, series, first }) {
  const url = `dicom-web/studies/${study}/series/${series}/instances/${value(first, '00080018')}/frames/1`;
  const answer = await fetch(new URL(url, BASE), { headers: { Accept: 'multipart/related; type="application/octet-stream"; transfer-syntax=*' } });
  const head = Buffer.from(await answer.arrayBuffer()).subarray(0, 2000).toString('latin1');
  return answer.ok ? head.match(/transfer-syntax="?([\d.]+)/)?.[1] : undefined;
}

/** One series of each kind that the checks need; what isn't there is undefined. */
export async function pick() {
  const all = await everySeries();
  const is = (modality) => ({ first }) => value(first, '00080060') === modality;
  const spaced = ({ first }) => first['00280030']?.Value?.length === 2;
  const volume = (each) => spaced(each) && each.metadata.length > 2 && each.metadata.every((set) => set['00200032']?.Value);
  const named = ({ first }) => value(first, '00100010')?.Alphabetic && value(first, '00100020');
  const frames = ({ first }) => Number(value(first, '00280008') ?? 1);
  const bits = (most) => ({ metadata }) => metadata.every((set) => Number(value(set, '00280100')) <= most);
  // 32 bits for a sample, as some of the files have, no viewer shows.
  const color = (each) => Number(value(each.first, '00280002')) === 3 && bits(8)(each);
  const gray = (each) => Number(value(each.first, '00280002')) === 1 && bits(16)(each);
  /** The first that fits and whose frames are there. */
  const one = async (fits, holds = () => true) => {
    for (const each of all.filter(fits)) {
      const kept = await syntax(each);
      if (kept && holds(kept)) return each;
    }
    return undefined;
  };
  return {
    ct: await one((each) => is('CT')(each) && volume(each) && named(each)),
    mr: await one((each) => is('MR')(each) && volume(each)) ?? await one(is('MR')),
    us: await one((each) => is('US')(each) && frames(each) > 1),
    color: await one((each) => color(each) && frames(each) === 1),
    compressed: await one((each) => gray(each) && frames(each) === 1, (kept) => !UNCOMPRESSED.includes(kept)),
    volumes: all.filter((each) => volume(each) && each.metadata.length > 3),
  };
}

/** How many different grey levels a canvas shows, and a sum that tells pictures apart. */
export const picture = (canvas) => canvas.evaluate((element) => {
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [element.width, element.height];
  const context = copy.getContext('2d');
  context.drawImage(element, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width || 1, copy.height || 1);
  const levels = new Set();
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) {
    levels.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    sum = (sum * 31 + data[i] + data[i + 1] * 3 + data[i + 2] * 7) % 4294967291;
  }
  return { levels: levels.size, sum };
});
