// OHIF, as the server serves it, in a real browser. Run with
//
//   npm ci --prefix examples/viewer
//   node ohif.mjs BASE_URL OUT_DIR
//
// The server holds what pydicom's test files hold, and phantom.py's series. Screenshots go to OUT_DIR.

import { BASE, ask, check, drive, must, newPage, pick, picture, shot, value } from './browser.mjs';

const data = await pick();
/** Chromium draws with the processor here: OHIF takes its time. */
const PATIENCE = 60000;

const frame = (page) => page.evaluate(() => new Promise((done) => { requestAnimationFrame(done); }));

/** Waits until that many viewports show a picture, and answers what they show. */
async function shows(page, count = 1) {
  const viewports = page.locator('canvas.cornerstone-canvas');
  const end = Date.now() + PATIENCE;
  for (;;) {
    const all = await viewports.all();
    const pictures = all.length === count ? await Promise.all(all.map((each) => picture(each).catch(() => ({ levels: 0 })))) : [];
    if (pictures.length && pictures.every(({ levels }) => levels > 8)) return pictures;
    if (Date.now() > end) throw new Error(`${all.length} viewports show ${JSON.stringify(pictures)}`);
    await frame(page);
  }
}

async function open(page, { study, series }, more = '') {
  await page.goto(new URL(`viewer?StudyInstanceUIDs=${study}&initialSeriesInstanceUID=${series}${more}`, BASE).href);
  return shows(page);
}

/** A page that has seen the notices which OHIF shows to newcomers. */
async function newViewer(browser, options) {
  const page = await newPage(browser, options);
  page.setDefaultTimeout(PATIENCE);
  await page.addInitScript(() => {
    sessionStorage.setItem('investigationalUseDialog', 'hidden');
    localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));
  });
  return page;
}

async function desk(browser) {
  const page = await newViewer(browser);
  await check('OHIF opens the list of studies', async () => {
    await page.goto(BASE.href);
    const total = (await ask('studies?limit=101')).length;
    await page.getByText(/of [1-9]\d*$/).first().waitFor();
    await page.waitForFunction((count) => document.querySelectorAll('tbody tr').length >= count, Math.min(total, 10));
    await shot(page, 'ohif-list');
    return `${total} studies`;
  });
  for (const kind of ['ct', 'mr', 'us', 'color', 'compressed']) {
    await check(`OHIF shows a series: ${kind}`, async () => {
      must(data[kind], 'the server holds none');
      const [{ levels }] = await open(page, data[kind]);
      await shot(page, `ohif-${kind}`);
      return `${levels} colours`;
    });
  }
  await check('OHIF plays through the frames of the ultrasound', async () => {
    const [before] = await open(page, data.us);
    const viewport = page.locator('canvas.cornerstone-canvas');
    await viewport.hover();
    await page.mouse.wheel(0, 100);
    const end = Date.now() + PATIENCE;
    while ((await picture(viewport)).sum === before.sum) {
      must(Date.now() < end, 'the picture stays as it was');
      await frame(page);
    }
  });
  await check('OHIF reconstructs a volume: MPR', async () => {
    must(data.volumes.length, 'the server holds no volume');
    for (const volume of data.volumes) {
      await open(page, volume);
      await page.locator('[data-cy=Layout]').click();
      const mpr = page.locator('[data-cy=MPR]');
      await mpr.waitFor();
      // OHIF greys it out where planes are missing or not evenly spaced.
      if (await mpr.evaluate((element) => element.matches('.pointer-events-none, :disabled, [aria-disabled=true]'))) continue;
      await mpr.click();
      const pictures = await shows(page, 3);
      await shot(page, 'ohif-mpr');
      must(new Set(pictures.map(({ sum }) => sum)).size === 3, 'the three planes are alike');
      return `${value(volume.first, '00080060')}, ${volume.metadata.length} planes`;
    }
    throw new Error('OHIF finds none of the volumes fit');
  });
  await check('OHIF measures a length', async () => {
    await open(page, data.ct);
    await page.locator('[data-cy=MeasurementTools-split-button-primary]').click();
    const box = await page.locator('canvas.cornerstone-canvas').boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    await page.mouse.move(x - 80, y);
    await page.mouse.down();
    await page.mouse.move(x + 80, y + 20, { steps: 8 });
    await page.mouse.up();
    const track = page.getByText(/track measurements/i).first();
    await track.waitFor();
    await page.getByRole('button', { name: /^yes$/i }).click();
    // The length stands beside the line; it is an SVG text.
    const words = page.locator('svg text, svg tspan').filter({ hasText: /[\d.]+ mm/ }).first();
    await words.waitFor();
    // The panel lists it too.
    await page.locator('[data-cy=trackedMeasurements-btn]').click();
    await page.waitForFunction(() => document.body.innerText.match(/[\d.]+ mm/g)?.length > 1);
    await shot(page, 'ohif-length');
    return (await words.textContent()).trim();
  });
  await check('nothing was asked of other servers', () => {
    const elsewhere = page.wrong.filter((words) => words.startsWith('asked '));
    must(!elsewhere.length, elsewhere.join('; '));
    must(!page.wrong.some((words) => /Content Security Policy/.test(words)), page.wrong.join('; '));
  });
  await page.context().close();
}

async function phone(browser) {
  const page = await newViewer(browser, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
  await check('OHIF lists studies and opens a CT on a phone', async () => {
    await page.goto(BASE.href);
    await page.getByText(value(data.ct.first, '00100010').Alphabetic.split('^')[0]).first().waitFor();
    await shot(page, 'ohif-phone-list');
    await open(page, data.ct);
    const image = await page.locator('canvas.cornerstone-canvas').boundingBox();
    const { width } = page.viewportSize();
    const whole = await page.evaluate(() => visualViewport.width * visualViewport.scale);
    must(image.width > whole * 0.7, `the image is ${image.width} of ${whole} wide (${width})`);
    await shot(page, 'ohif-phone');
  });
  await page.context().close();
}

await drive(async (browser) => {
  must(data.ct, 'the server holds no CT of some images with Pixel Spacing and a patient’s name');
  await check('OHIF is installed, and the built-in page is beside it', async () => {
    const config = await (await fetch(new URL('app-config.js', BASE))).text();
    must(config.includes('dicomweb'), 'no configuration');
    const page = await (await fetch(new URL('quick/', BASE))).text();
    must(page.includes('name="root" content="../"'), 'no built-in page');
  });
  await desk(browser);
  await phone(browser);
});
