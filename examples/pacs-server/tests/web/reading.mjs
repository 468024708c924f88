// The reading worklist of the built-in page in several browsers at once.
// Run with
//
//   node reading.mjs BASE_URL OUT_DIR
//
// The server has just received CT_small.dcm (of which a rule makes a STAT), MR_small.dcm (HIGH) and phantom.py's two
// studies, and opens their steps. Screenshots go to OUT_DIR.

import { BASE, ask, check, drive, fits, must, newPage, shot, tabTo, value } from './browser.mjs';

const HOME = new URL('quick/', BASE).href;
const [STAT, HIGH] = ['CompressedSamples, CT1', 'CompressedSamples, MR1'];

const rows = (page) => page.locator('#steps tr');
const row = (page, patient) => rows(page).filter({ has: page.locator('th button', { hasText: patient }) });
const count = (page, expected) => page.waitForFunction((expected) => document.querySelectorAll('#steps tr').length === expected, expected);
/** Waits until the row of a patient says so. */
const says = (page, patient, words) => row(page, patient).filter({ hasText: words }).waitFor();
const patients = (page) => page.locator('#steps th button').allInnerTexts();

/** A browser of its own at the worklist. What it asks for is noted. */
async function reader(browser, { before, ...options } = {}) {
  const page = await newPage(browser, options);
  page.asked = [];
  page.on('request', (request) => page.asked.push(decodeURIComponent(request.url())));
  if (before) await page.addInitScript(before);
  await page.goto(`${HOME}#reading`);
  return page;
}

async function introduce(page, family, given) {
  await page.locator('#who[open]').waitFor();
  await page.getByLabel('Family name').fill(family);
  await page.getByLabel('Given name').fill(given);
  await page.getByRole('button', { name: 'Keep' }).click();
}

/** The steps of a patient, as a RIS would ask for them. */
const steps = (id, state) => ask(`workitems?PatientID=${id}&ProcedureStepState=${encodeURIComponent(state)}&includefield=all`);
const performer = (step) => value(value(value(step, '00741216'), '00404035'), '00404037').Alphabetic;

await drive(async (browser) => {
  const one = await reader(browser);
  await check('studies that are stable wait to be read, the most urgent first', async () => {
    await count(one, 4);
    await row(one, STAT).waitFor();
    const [first, second, ...others] = await patients(one);
    must(first === STAT && second === HIGH && others.length === 2, (await patients(one)).join('; '));
    must(/^STAT/.test(await rows(one).first().innerText()), 'STAT is not said in words');
    await shot(one, 'reading');
    return one.locator('#waiting').innerText();
  });
  await check('a row says which study it is', async () => {
    const words = (await row(one, STAT).innerText()).replace(/\s+/g, ' ');
    must(/1CT1.*2004-01-19.*CT.*waiting.*\d{4}-\d\d-\d\d \d\d:\d\d/.test(words), words);
    return words;
  });
  await check('text, modality, priority and state filter, and no address says by what', async () => {
    await one.getByLabel('Patient, accession number').fill('phantom head');
    await count(one, 2);
    await one.getByLabel('Patient, accession number').fill('');
    await one.locator('#filter [name=modality]').selectOption('MR');
    await count(one, 1);
    await one.locator('#filter [name=modality]').selectOption('');
    await one.getByLabel('Priority').selectOption('STAT');
    await count(one, 1);
    await one.reload();
    await count(one, 1);
    await one.getByRole('button', { name: 'Clear' }).click();
    await count(one, 4);
    await one.getByLabel('State').selectOption('claimed');
    await count(one, 0);
    await one.getByLabel('State').selectOption('open');
    await count(one, 4);
  });
  await check('a column sorts, and back', async () => {
    const by = (name) => one.locator('#step-columns').getByRole('button', { name }).click();
    await by('Patient');
    must((await patients(one))[0] === STAT, 'not from A on');
    await by('Patient');
    must((await patients(one))[0] === 'Phantom, Head', 'not from Z on');
    must(await one.locator('#step-columns [aria-sort=descending]').count() === 1, 'no column says so');
    await by('Priority');
    must((await patients(one))[0] === STAT, 'not by priority');
  });

  // Neither asks again by itself: this one lives by its event channel, and that one does not hear of anything.
  const other = await reader(browser, { before: () => { window.setInterval = () => 0; } });
  const deaf = await reader(browser, { before: () => { window.setInterval = () => 0; window.WebSocket = class { constructor() { throw new Error('no'); } }; } });
  await Promise.all([count(other, 4), count(deaf, 4)]);
  await check('a reader says who they are, and claims a study; another browser sees it without being asked', async () => {
    await row(one, STAT).getByRole('button', { name: 'Claim' }).click();
    await introduce(one, 'Müller', 'Änne');
    await says(one, STAT, 'Müller, Änne (you)');
    await says(other, STAT, 'Müller, Änne');
    const words = await row(other, STAT).innerText();
    must(/being read/.test(words) && !/you|Claim|Done/.test(words), words);
    await shot(other, 'claimed-elsewhere');
    const [step] = await steps('1CT1', 'IN PROGRESS');
    must(performer(step) === 'Müller^Änne', 'the step says another name');
  });
  await check('who claims too late is told by whom it was claimed', async () => {
    must(/waiting/.test(await row(deaf, STAT).innerText()), 'it has heard of it');
    await row(deaf, STAT).getByRole('button', { name: 'Claim' }).click();
    await introduce(deaf, 'Late', '');
    await deaf.getByText('Müller, Änne has claimed this study meanwhile.').waitFor();
    await says(deaf, STAT, 'being read');
    must(await row(deaf, STAT).getByRole('button', { name: 'Done' }).count() === 0, 'it may end it');
    await shot(deaf, 'too-late');
  });
  await check('a row opens its study, and Escape leads back', async () => {
    await row(one, STAT).locator('th button').click();
    await one.waitForFunction(() => document.querySelector('.pane').dataset.shown);
    must(/CompressedSamples/.test(await one.locator('.pane .corner.tl').first().innerText()), 'another study');
    await one.keyboard.press('Escape');
    await rows(one).first().waitFor();
    must(/#reading$/.test(one.url()), one.url());
  });
  await check('after a reload it can still be ended, and everybody sees it', async () => {
    await one.reload();
    await says(one, STAT, '(you)');
    await row(one, STAT).getByRole('button', { name: 'Done' }).click();
    await Promise.all([count(one, 3), count(other, 3)]);
    const [step] = await steps('1CT1', 'COMPLETED');
    must(performer(step) === 'Müller^Änne', 'the step says another name');
    await one.getByLabel('State').selectOption('done');
    await says(one, STAT, 'read');
    await one.getByLabel('State').selectOption('open');
    must(await one.evaluate(() => localStorage.getItem('claims')) === '{}', 'a Transaction UID is left');
  });
  await check('a study that is given back waits again, and another reader claims it', async () => {
    await row(one, HIGH).getByRole('button', { name: 'Claim' }).click();
    await says(other, HIGH, 'Müller');
    await row(one, HIGH).getByRole('button', { name: 'Give back' }).click();
    await says(other, HIGH, 'waiting');
    const [[canceled], [waiting]] = await Promise.all([steps('4MR1', 'CANCELED'), steps('4MR1', 'SCHEDULED')]);
    must(value(value(waiting, '00741224'), '00081155') === value(canceled, '00080018'), 'it names no other step');
    await row(other, HIGH).getByRole('button', { name: 'Claim' }).click();
    await introduce(other, 'Other', 'Reader');
    await says(one, HIGH, 'Other, Reader');
    await says(other, HIGH, '(you)');
  });
  await check('the list of studies says how far each is', async () => {
    await one.getByRole('link', { name: 'Studies', exact: true }).click();
    const study = one.locator('tr.study', { hasText: '1CT1' });
    await study.locator('td.state', { hasText: 'read' }).waitFor();
    await one.locator('tr.study', { hasText: '4MR1' }).locator('td.state', { hasText: 'acquired' }).waitFor();
    await shot(one, 'studies');
  });
  await check('where there is no event channel it is asked again now and then', async () => {
    const asking = await reader(browser, { before: () => { window.WebSocket = class { constructor() { throw new Error('no'); } }; } });
    await asking.clock.install();
    await asking.reload();
    await count(asking, 3);
    await row(other, HIGH).getByRole('button', { name: 'Done' }).click();
    await count(other, 2);
    await asking.clock.runFor(21000);
    await count(asking, 2);
    await asking.context().close();
  });

  const keys = await reader(browser);
  await check('the keyboard alone claims and ends a study', async () => {
    await keys.goto(HOME);
    await keys.locator('tr.study').first().waitFor();
    await tabTo(keys, () => document.activeElement.id === 'to-reading');
    await keys.keyboard.press('Enter');
    await count(keys, 2);
    await tabTo(keys, () => document.activeElement.name === 'text');
    await keys.keyboard.type('PH1');
    await count(keys, 1);
    await tabTo(keys, () => document.activeElement.textContent === 'Claim');
    await keys.keyboard.press('Enter');
    await keys.locator('#who[open]').waitFor();
    // An event comes meanwhile, and every row is made anew.
    await keys.evaluate(() => { document.querySelector('#steps tr').dataset.before = ''; dispatchEvent(new Event('storage')); });
    await keys.waitForFunction(() => !document.querySelector('#steps tr[data-before]'));
    await keys.keyboard.type('Keys');
    await keys.keyboard.press('Enter');
    await says(keys, 'Phantom', '(you)');
    await keys.waitForFunction(() => document.activeElement.closest('#steps'));
    await shot(keys, 'keyboard');
    await tabTo(keys, () => document.activeElement.textContent === 'Done');
    await keys.keyboard.press('Enter');
    await count(keys, 0);
    await keys.waitForFunction(() => document.activeElement.id === 'reading-results');
    const nameless = await keys.evaluate(() => [...document.querySelectorAll('button, input, select, a[href]')]
      .filter((element) => element.checkVisibility() && !(element.getAttribute('aria-label') || element.labels?.length || element.textContent.trim()))
      .map((element) => element.outerHTML.slice(0, 80)));
    must(!nameless.length, nameless.join('; '));
  });

  const phone = await reader(browser, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: 'dark' });
  await check('on a phone the last study is claimed', async () => {
    await count(phone, 1);
    await fits(phone);
    await row(phone, 'Phantom').getByRole('button', { name: 'Claim' }).tap();
    await phone.locator('#who[open]').waitFor();
    await fits(phone);
    await introduce(phone, 'Phone', '');
    await says(phone, 'Phantom', '(you)');
    await fits(phone);
    await shot(phone, 'phone-reading');
  });
  await check('nothing went wrong unseen, and no address names a patient or a reader', () => {
    const all = [one, other, deaf, keys, phone];
    const unseen = all.flatMap((page) => page.wrong);
    must(!unseen.length, unseen.join('; '));
    // The viewer asks for the patient's other studies, as a search does.
    const naming = all.flatMap((page) => [...page.asked, page.url()]).filter((url) => !/studies\?PatientID=/.test(url) && /Samples|Phantom|1CT1|4MR1|PH1|Müller|Other/i.test(url));
    must(!naming.length, `${naming.length} do`);
  });
});
