// The built-in page in a real browser, at the size of a desk, of a phone, and with the keyboard alone.
// Run with
//
//   node page.mjs BASE_URL OUT_DIR
//
// The server holds what pydicom's test files hold, and phantom.py's series. Screenshots go to OUT_DIR.

import { BASE, ask, check, drive, fits, must, newPage, pick, picture, shot, tabTo, value } from './browser.mjs';

const data = await pick();
// Where OHIF is installed, the page is below /quick/; there it always is.
const HOME = new URL('quick/', BASE).href;

const corner = (page, at, pane = 0) => page.locator('.pane').nth(pane).locator(`.corner.${at}`).innerText();
const canvas = (page, pane = 0) => page.locator('.pane canvas').nth(pane);
const look = ({ study, series }, more = '') => `${HOME}#look?a=${study}/${series}${more}`;

/** Waits until the picture stands for what the pane says. */
async function settled(page, pane = 0) {
  await page.waitForFunction((pane) => {
    const element = document.querySelectorAll('.pane')[pane];
    const slider = element.querySelector('input[type=range]');
    return element.dataset.shown && element.dataset.shown === slider.value;
  }, pane);
  // Drawn with the next frame after the last change.
  await page.evaluate(() => new Promise((done) => { requestAnimationFrame(() => requestAnimationFrame(done)); }));
}

/** Waits until the canvas shows something else than `before`. */
async function becomes(page, before, differs = true, pane = 0) {
  for (let tries = 0; tries < 300; tries += 1) {
    const now = await picture(canvas(page, pane));
    if ((now.sum !== before.sum) === differs) return now;
    await page.evaluate(() => new Promise((done) => { requestAnimationFrame(done); }));
  }
  throw new Error(differs ? 'the picture stays as it was' : 'the picture is not as before');
}

async function open(page, series, more) {
  await page.goto('about:blank');
  await page.goto(look(series, more));
  await settled(page);
  return picture(canvas(page));
}

const family = () => value(data.ct.first, '00100010').Alphabetic.split('^')[0];

async function desk(browser) {
  const page = await newPage(browser, { colorScheme: 'light' });
  await check('the page opens and lists studies', async () => {
    await page.goto(HOME);
    await page.locator('tr.study').first().waitFor();
    await shot(page, 'list');
    must(await page.evaluate(() => document.querySelectorAll('h1').length) === 1, 'no single heading');
  });
  await check('the status tells what the server holds', async () => {
    await page.locator('#show-status').click();
    await page.locator('#status-body dl').waitFor();
    const words = await page.locator('#status-body').innerText();
    const status = await (await fetch(new URL('status', BASE))).json();
    must(words.includes(status.totals.instances.toLocaleString('en-US')), words);
    must(status.ohif.installed || words.includes(status.ohif.install), 'nothing says how OHIF is installed');
    await shot(page, 'status');
    await page.keyboard.press('Escape');
    return `${status.totals.instances} instances`;
  });
  await check('a search by the beginning of a name finds what QIDO finds', async () => {
    await page.getByLabel('Patient name').fill(family().toLowerCase());
    await page.getByRole('button', { name: 'Search' }).click();
    const expected = await ask(`studies?PatientName=${encodeURIComponent(`${family().toLowerCase()}*`)}&limit=51`);
    await page.waitForFunction((count) => document.querySelectorAll('tr.study').length === count, Math.min(50, expected.length));
    must(expected.length > 0, 'QIDO finds nothing');
    return `${expected.length} studies`;
  });
  await check('a study opens to its series with thumbnails', async () => {
    await page.locator(`tr:has(+ #${CSSescape(`s-${data.ct.study}`)}) .toggle`).click();
    const below = page.locator(`#${CSSescape(`s-${data.ct.study}`)}`);
    await below.locator('.card').first().waitFor();
    await below.locator('.thumb.there').first().waitFor();
    await shot(page, 'series');
  });
  await check('a search for nobody says so', async () => {
    await page.getByLabel('Patient name').fill('nobody is called that');
    await page.keyboard.press('Enter');
    await page.getByText('No study matches').first().waitFor();
  });
  await check('a shortcut sets the dates', async () => {
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.getByRole('button', { name: '7 days' }).click();
    const [from, to] = await Promise.all(['Studied from', 'to'].map((label) => page.getByLabel(label, { exact: true }).inputValue()));
    must(Date.parse(to) - Date.parse(from) === 6 * 86400000, `${from} to ${to}`);
  });

  let first;
  await check('a CT is shown with its patient in the corner', async () => {
    first = await open(page, data.ct);
    must(first.levels > 8, `${first.levels} levels`);
    must((await corner(page, 'tl')).includes(family()), 'no name');
    await shot(page, 'ct');
    return `${first.levels} levels`;
  });
  const box = await canvas(page).boundingBox();
  const middle = [box.x + box.width / 2, box.y + box.height / 2];
  await check('the wheel shows the next image', async () => {
    await page.mouse.move(...middle);
    await page.mouse.wheel(0, 100);
    await page.waitForFunction(() => document.querySelector('.pane').dataset.shown === '2');
    await becomes(page, first);
    must((await corner(page, 'bl')).startsWith('2 /'), await corner(page, 'bl'));
    await page.mouse.wheel(0, -100);
    await becomes(page, first, false);
  });
  await check('dragging with the right button changes the window', async () => {
    await page.mouse.move(...middle);
    await page.mouse.down({ button: 'right' });
    await page.mouse.move(middle[0] + 120, middle[1] - 60, { steps: 12 });
    await page.mouse.up({ button: 'right' });
    await becomes(page, first);
    await shot(page, 'window');
    return (await corner(page, 'br')).split('\n')[0];
  });
  await check('a preset and the fields set the window', async () => {
    await page.getByLabel('Window preset').selectOption('Lung');
    await page.waitForFunction(() => /C -600 +W 1500/.test(document.querySelector('.corner.br').textContent));
    const lung = await becomes(page, first);
    await page.getByLabel('Window width').fill('80');
    await page.keyboard.press('Enter');
    await becomes(page, lung);
    must(/W 80/.test(await corner(page, 'br')), await corner(page, 'br'));
  });
  await check('reset brings back the first look, after invert, zoom and pan too', async () => {
    await page.getByRole('button', { name: 'Invert' }).click();
    await page.keyboard.down('Control');
    await page.mouse.move(...middle);
    await page.mouse.wheel(0, -200);
    await page.keyboard.up('Control');
    await page.mouse.down({ button: 'middle' });
    await page.mouse.move(middle[0] + 40, middle[1] + 20, { steps: 4 });
    await page.mouse.up({ button: 'middle' });
    await becomes(page, first);
    await page.getByRole('button', { name: 'Reset' }).click();
    await becomes(page, first, false);
  });
  await check('a length is measured in mm by Pixel Spacing', async () => {
    await page.getByRole('button', { name: 'Length' }).click();
    await page.mouse.move(middle[0] - 100, middle[1]);
    await page.mouse.down();
    await page.mouse.move(middle[0] + 100, middle[1], { steps: 5 });
    await page.mouse.up();
    await page.waitForFunction(() => /^Length \d/.test(document.getElementById('say').textContent));
    const words = await page.locator('#say').innerText();
    const { first: set } = data.ct, [row, column] = set['00280030'].Value.map(Number);
    const [rows, columns] = [value(set, '00280010'), value(set, '00280011')];
    const scale = Math.min(box.width / (columns * column / row), box.height / rows);
    const expected = 200 / (scale * column / row) * column;
    must(Math.abs(parseFloat(words.slice(7)) - expected) < 0.11, `${words}, expected ${expected.toFixed(1)}`);
    must(words.endsWith(' mm'), words);
    await shot(page, 'length');
    await page.keyboard.press('Delete');
    await becomes(page, first, false);
    return words;
  });
  await check('two panes scroll together', async () => {
    await page.getByRole('button', { name: 'Scroll', exact: true }).click();
    await page.getByRole('button', { name: 'Two panes' }).click();
    await page.locator(`[data-series="${data.ct.series}"]`).click();
    await settled(page, 1);
    await page.getByRole('button', { name: 'Link' }).click();
    await canvas(page, 1).focus();
    await page.keyboard.press('ArrowDown');
    await page.waitForFunction(() => [...document.querySelectorAll('.pane')].every((pane) => pane.dataset.shown === '2'));
    await shot(page, 'two-panes');
  });
  await check('the address brings back the same look', async () => {
    await page.waitForFunction(() => location.hash.includes('link=1'));
    const [before, address] = [await Promise.all([corner(page, 'bl'), corner(page, 'bl', 1)]), page.url()];
    await page.waitForFunction(() => /ai=2,/.test(location.hash) && /bi=2,/.test(location.hash));
    await page.reload();
    await settled(page, 0);
    await settled(page, 1);
    const after = await Promise.all([corner(page, 'bl'), corner(page, 'bl', 1)]);
    must(before.join() === after.join(), `${before} became ${after}`);
    must(!address.includes(encodeURIComponent(family())), 'the address names the patient');
  });
  await check('the other study of a patient can be set beside', async () => {
    const others = (await ask(`studies?PatientID=${encodeURIComponent(value(data.ct.first, '00100020'))}`)).length - 1;
    if (others < 1) return 'there is none';
    await open(page, data.ct);
    await page.getByText('Other studies of this patient').click();
    await page.getByText('open beside').first().click();
    await settled(page, 1);
    for (const pane of [0, 1]) {
      const slider = page.locator('.pane').nth(pane).locator('input[type=range]');
      await slider.fill(String(Math.ceil(Number(await slider.getAttribute('max')) / 2)));
      await settled(page, pane);
    }
    await shot(page, 'beside');
    return `${others} others`;
  });
  await check('cine plays, and stops', async () => {
    await open(page, data.us ?? data.ct);
    await page.getByRole('button', { name: 'Play' }).click();
    await page.waitForFunction(() => Number(document.querySelector('.pane').dataset.shown) > 2);
    await canvas(page).focus();
    await page.keyboard.press(' ');
    await page.locator('button[title^=Play][aria-pressed=false]').waitFor();
  });
  for (const kind of ['mr', 'us', 'color', 'compressed']) {
    await check(`a series is shown: ${kind}`, async () => {
      must(data[kind], 'the server holds none');
      const shown = await open(page, data[kind]);
      must(shown.levels > 8, `${shown.levels} levels`);
      await shot(page, kind);
      return `${shown.levels} levels`;
    });
  }
  await check('what fails is said in words, and can be tried again', async () => {
    await page.route('**/rendered*', (route) => route.abort());
    await page.goto('about:blank');
    await page.goto(look(data.ct));
    await page.getByText('The server can’t be reached').waitFor();
    await page.unroute('**/rendered*');
    await page.getByRole('button', { name: 'Try again' }).click();
    await settled(page);
  });
  await check('nothing went wrong unseen, and no other server was asked', () => must(!page.wrong.length, page.wrong.join('; ')));
  await page.context().close();
}

async function keyboard(browser) {
  const page = await newPage(browser, { colorScheme: 'dark' });
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label') || document.activeElement.textContent || document.activeElement.name || '');
  await check('with the keyboard alone a study is found and opened', async () => {
    await page.goto(HOME);
    await page.locator('tr.study').first().waitFor();
    await tabTo(page, () => document.activeElement.name === 'PatientID');
    await page.keyboard.type(value(data.ct.first, '00100020'));
    await press('Enter');
    await page.waitForFunction(() => document.activeElement.id === 'results');
    await page.evaluate((study) => { window.wanted = `s-${study}`; }, data.ct.study);
    await tabTo(page, () => document.activeElement.getAttribute('aria-controls') === window.wanted);
    await press('Enter');
    await page.locator('.card').first().waitFor();
    await tabTo(page, () => document.activeElement.textContent === 'Look at it');
    await shot(page, 'keyboard-list');
    await press('Enter');
    await settled(page);
    must(/CT/.test(await focused()), `focus is on ${await focused()}`);
  });
  const first = await picture(canvas(page));
  await check('arrow keys show other images, and a reader is told', async () => {
    await press('ArrowDown');
    await becomes(page, first);
    await page.waitForFunction(() => /^Image 2 of/.test(document.getElementById('say').textContent));
    await press('Home');
    await becomes(page, first, false);
  });
  await check('keys change the window', async () => {
    const before = await corner(page, 'br');
    await press('Shift+ArrowRight', 'Shift+ArrowRight', 'Shift+ArrowUp');
    const turned = await becomes(page, first);
    must(await corner(page, 'br') !== before, before);
    await press('2');
    await becomes(page, turned);
    must(/C -600 +W 1500/.test(await corner(page, 'br')), await corner(page, 'br'));
    await press('0');
    await becomes(page, first, false);
  });
  await check('keys zoom, invert, and bring back', async () => {
    await press('+', 'i');
    await becomes(page, first);
    await press('r');
    await becomes(page, first, false);
  });
  await check('keys measure', async () => {
    await press('m', 'Enter', ...Array(10).fill('ArrowRight'), 'Enter');
    await page.waitForFunction(() => /^Length .* mm/.test(document.getElementById('say').textContent));
    await shot(page, 'keyboard-length');
    return page.locator('#say').innerText();
  });
  await check('help opens and closes, and Escape leads back to the list', async () => {
    await press('?');
    await page.locator('#keys[open]').waitFor();
    await press('Escape');
    await page.locator('#keys:not([open])').waitFor({ state: 'attached' });
    await canvas(page).waitFor();
    await tabTo(page, () => document.activeElement.tagName === 'CANVAS');
    await press('Escape');
    await page.locator('tr.study').first().waitFor();
    await page.waitForFunction(() => document.activeElement.id === 'results');
    must(await page.getByLabel('Patient ID').inputValue() === value(data.ct.first, '00100020'), 'the search is lost');
  });
  await check('everything that can be used has a name', async () => {
    const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, select, a[href], canvas, img')]
      .filter((element) => element.checkVisibility() && element.tagName !== 'IMG')
      .filter((element) => !(element.getAttribute('aria-label') || element.labels?.length || element.textContent.trim()))
      .map((element) => element.outerHTML.slice(0, 80)));
    must(!nameless.length, nameless.join('; '));
  });
  await page.context().close();
}

async function phone(browser) {
  const page = await newPage(browser, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: 'dark' });
  const touch = await page.context().newCDPSession(page);
  const fingers = (type, ...points) => touch.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  /** Moves the fingers in steps, and holds still at the end: a flick would take the next tap with it. */
  const drag = async (at) => {
    await fingers('touchStart', ...at(0));
    for (let part = 1; part <= 10; part += 1) await fingers('touchMove', ...at(part / 10));
    for (let still = 0; still < 10; still += 1) {
      await fingers('touchMove', ...at(1));
      await page.evaluate(() => new Promise((done) => { requestAnimationFrame(done); }));
    }
    await fingers('touchEnd');
  };
  await check('on a phone a study is found and opened', async () => {
    await page.goto(HOME);
    await page.locator('tr.study').first().waitFor();
    await fits(page);
    await shot(page, 'phone-list');
    await page.getByLabel('Patient ID').fill(value(data.ct.first, '00100020'));
    await page.getByRole('button', { name: 'Search' }).tap();
    // What was listed before goes away when the answer comes.
    await page.waitForFunction(() => document.activeElement.id === 'results');
    const toggle = page.locator(`tr:has(+ #${CSSescape(`s-${data.ct.study}`)}) .toggle`);
    await toggle.tap();
    await page.locator('.thumb.there').first().waitFor();
    await fits(page);
    await shot(page, 'phone-series');
    await page.getByRole('button', { name: 'Look at it' }).first().tap();
    await settled(page);
    await fits(page);
    await shot(page, 'phone-ct');
  });
  await open(page, data.ct);
  const first = await picture(canvas(page)), box = await canvas(page).boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await check('a finger scrolls', async () => {
    await drag((part) => [[x, y + 60 * part]]);
    await becomes(page, first);
    await page.locator('input[type=range]').first().fill('1');
    await becomes(page, first, false);
  });
  await check('a finger changes the window', async () => {
    await page.getByRole('button', { name: 'Window', exact: true }).tap();
    await drag((part) => [[x + 100 * part, y]]);
    await becomes(page, first);
    await shot(page, 'phone-window');
    return (await corner(page, 'br')).split('\n')[0];
  });
  await check('two fingers zoom', async () => {
    const before = await corner(page, 'br');
    await drag((part) => [[x - 40 - 60 * part, y], [x + 40 + 60 * part, y]]);
    await page.waitForFunction((before) => document.querySelector('.corner.br').innerText !== before, before);
    const zoom = Number((await corner(page, 'br')).match(/(\d+) %/)[1]);
    must(zoom > 200, `${zoom} %`);
  });
  await check('two panes stand one above the other', async () => {
    await page.getByRole('button', { name: 'Two panes' }).tap();
    await page.locator(`[data-series="${data.ct.series}"]`).first().tap();
    await settled(page, 1);
    const [above, below] = await Promise.all([canvas(page, 0).boundingBox(), canvas(page, 1).boundingBox()]);
    must(below.y > above.y + above.height - 1 && Math.abs(above.x - below.x) < 1, JSON.stringify([above, below]));
    await fits(page);
    await shot(page, 'phone-two-panes');
  });
  await check('nothing went wrong unseen on the phone', () => must(!page.wrong.length, page.wrong.join('; ')));
  await page.context().close();
}

/** A UID as part of a CSS selector. */
function CSSescape(text) {
  return text.replace(/\./g, '\\.');
}

await drive(async (browser) => {
  must(data.ct, 'the server holds no CT of some images with Pixel Spacing and a patient’s name');
  await desk(browser);
  await keyboard(browser);
  await phone(browser);
});
