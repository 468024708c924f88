// The reading worklist: what is to be read, who reads it, and that it was read. Unified procedure steps, over UPS-RS.

import { changeState, date, listen, name, searchSteps, searchStudies, setStep, text, values } from './dicomweb.js';
import { $, h, heads, say } from './dom.js';
import { MODALITIES, inOhif, look } from './list.js';

/** Steps of one state that are shown. */
const MOST = 500;
const PRIORITIES = ['STAT', 'HIGH', 'MEDIUM', 'LOW'];
const STATES = { SCHEDULED: 'waiting', 'IN PROGRESS': 'being read', COMPLETED: 'read' };
const OPEN = ['SCHEDULED', 'IN PROGRESS'];
const ASKED = { open: OPEN, waiting: ['SCHEDULED'], claimed: ['IN PROGRESS'], mine: ['IN PROGRESS'], done: ['COMPLETED'] };
/** How often it is asked again: a change of priority is no event, and channels fail. */
const AGAIN = 20000;

let steps = [];
let sorted = { key: 'priority', down: false };
let asking, channel, opening, soon, isWorking = false, isStale = false;
/** What the index knows of the studies, by their UIDs. */
const studies = new Map();

const COLUMNS = [
  ['Priority', 'priority', (step) => PRIORITIES.indexOf(step.priority)],
  ['Patient', 'patient', (step) => step.patient],
  ['Study', 'study-of', (step) => step.described],
  ['Modality', 'modality', (step) => step.modalities.join(', ')],
  ['State', 'state', (step) => STATES[step.state]],
  ['Reader', 'by', (step) => step.reader],
  ['Waiting since', 'since', (step) => step.since],
];

// ---- who reads, and what this browser has claimed ----

const reader = () => localStorage.getItem('reader') ?? '';
const shownReader = () => name({ '00100010': { Value: [{ Alphabetic: reader() }] } });
/** Step → the Transaction UID that it was claimed with: without it nobody can end it. UIDs only. */
function claims() {
  try {
    return JSON.parse(localStorage.getItem('claims')) ?? {};
  } catch { return {}; }
}
function keep(step, transaction) {
  const all = claims();
  if (transaction) all[step] = transaction;
  else delete all[step];
  localStorage.setItem('claims', JSON.stringify(all));
}

/** Asks who reads; false where nobody says so. */
function introduce() {
  const dialog = $('who'), form = dialog.querySelector('form');
  // The browser would lead back to the button that was there, and rows are made anew meanwhile.
  const { at } = document.activeElement.dataset;
  [form.elements.family.value, form.elements.given.value] = [...reader().split('^'), '', ''];
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((done) => {
    dialog.onclose = () => {
      const part = (field) => form.elements[field].value.replace(/[\^=\\]/g, ' ').trim();
      const said = dialog.returnValue === 'ok' && part('family');
      if (said) localStorage.setItem('reader', [said, part('given')].filter(Boolean).join('^'));
      show();
      if (at) comeBack(at);
      done(Boolean(said));
    };
  });
}

/** A UID of a random number (PS3.5 B.2). */
function randomUid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `2.25.${bytes.reduce((all, byte) => all * 256n + BigInt(byte), 0n)}`;
}

// ---- what is asked ----

const isShown = () => !$('list').hidden && !$('reading').hidden;
const now = (at = Date.now()) => `${new Date(at).toISOString().replace(/\D/g, '').slice(0, 14)}+0000`;
/** A DICOM date-time as the clock here shows it. */
function local(text) {
  const parts = text.match(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?[.\d]*([+-]\d\d)?(\d\d)?/);
  if (!parts) return text;
  const [, year, month, day, hour, minute, second = '00', zone, past = '00'] = parts;
  const at = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}${zone ? `${zone}:${past}` : ''}`);
  return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16).replace('T', ' ');
}

function read(set) {
  const [request] = values(set, '0040A370'), [done] = values(set, '00741216'), [input] = values(set, '00404021');
  const uid = text(set, '00080018'), state = text(set, '00741000'), priority = text(set, '00741200');
  const study = text(request, '0020000D') || text(input, '0020000D'), known = studies.get(study);
  const by = name(values(done, '00404035')[0], '00404037');
  return {
    uid, study, state, reader: by, patient: name(set) || '—', id: text(set, '00100020'), accession: text(request, '00080050'),
    // What is STAT is HIGH there (PS3.3 C.30.2.1), and the request says which.
    priority: priority === 'HIGH' && text(request, '00401003') === 'STAT' ? 'STAT' : priority,
    described: [date(known, '00080020'), text(known, '00081030') || text(request, '00321060')].filter(Boolean).join(' · '),
    modalities: values(known, '00080061'), since: local(text(set, '00404005')), begun: text(done, '00404050'),
    isMine: state === 'IN PROGRESS' && uid in claims() && (!by || by === shownReader()),
  };
}

async function load() {
  const mine = asking = {};
  const wanted = $('filter').elements.state.value;
  try {
    const since = wanted === 'done' ? `&ScheduledProcedureStepModificationDateTime=${encodeURIComponent(now(Date.now() - 86400000))}-` : '';
    const lists = await Promise.all(ASKED[wanted].map((state) => searchSteps(`ProcedureStepState=${state}&limit=${MOST}${since}`)));
    const sets = lists.flat(), unknown = new Set(sets.map((set) => read(set).study).filter((study) => study && !studies.has(study)));
    for (const list = [...unknown]; list.length;) {
      const some = list.splice(0, 50);
      for (const set of await searchStudies(`StudyInstanceUID=${some}&limit=50`)) studies.set(text(set, '0020000D'), set);
    }
    if (asking !== mine) return;
    steps = sets.map(read);
    if (isStale) wrong('');
    isStale = false;
    show(lists.some((list) => list.length === MOST));
    if (wanted === 'open' && lists.every((list) => list.length < MOST)) await prune();
  } catch (error) {
    if (asking !== mine) return;
    isStale = true;
    wrong(error.message);
  }
}

/** What is over was ended by somebody else: a report, most often. Two lists are of two moments, so each is asked about. */
async function prune() {
  for (const step of Object.keys(claims())) {
    if (steps.some(({ uid }) => uid === step)) continue;
    const [left] = await searchSteps(`SOPInstanceUID=${step}`);
    if (!OPEN.includes(text(left, '00741000'))) keep(step);
  }
}

function wrong(words) {
  $('reading-wrong').textContent = words;
  $('reading-wrong').hidden = !words;
}

/** Hears of changes, and looks again. */
async function follow() {
  if (channel || opening) return;
  opening = true;
  try {
    // Many events at once are one look.
    channel = await listen(() => { soon ??= setTimeout(() => { soon = null; if (isShown()) load(); }, 200); });
    channel.onopen = load;
    channel.onclose = () => { channel = null; };
  } catch { /* It is asked again now and then. */ }
  opening = false;
}

// ---- what is shown ----

function matches(step) {
  const { text: words, modality, priority, state } = $('filter').elements;
  const all = [step.patient, step.id, step.accession, step.described, step.reader].join(' ').toLowerCase();
  return words.value.toLowerCase().split(/[\s,]+/).every((word) => all.includes(word))
    && (!modality.value || step.modalities.includes(modality.value)) && (!priority.value || step.priority === priority.value)
    && (state.value !== 'mine' || step.isMine);
}

function show(areMore = false) {
  const [, , value] = COLUMNS.find(([, key]) => key === sorted.key), [, , urgent] = COLUMNS[0];
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const rows = steps.filter(matches).sort((a, b) => compare(value(a), value(b)) * (sorted.down ? -1 : 1)
    || urgent(a) - urgent(b) || compare(a.since, b.since));
  const stat = rows.filter(({ priority }) => priority === 'STAT').length;
  const words = `${rows.length || 'No'} ${rows.length === 1 ? 'study' : 'studies'}${stat ? `, ${stat} STAT` : ''}`;
  $('waiting').textContent = `${words}${areMore ? `, of the ${MOST} most urgent` : ''}`;
  say(words, 500);
  $('reader').textContent = reader() ? `Reader: ${shownReader()}` : 'Who reads?';
  heads($('step-columns'), COLUMNS, sorted, 'Sort by', (key, down = false) => { sorted = { key, down }; show(areMore); });
  $('step-columns').append(h('th', { scope: 'col', role: 'columnheader' }, h('span', { className: 'unseen', textContent: 'What to do' })));
  // Who is at a row stays there, whatever came meanwhile.
  const at = $('steps').contains(document.activeElement) && document.activeElement.dataset.at;
  $('steps').replaceChildren(...rows.map(row));
  if (at) comeBack(at);
}

/** To a button of a row; where that is no more to the row, and where the row is gone to the list. */
function comeBack(at) {
  const place = (wanted) => $('steps').querySelector(`[data-at="${wanted}"]`);
  (place(at) ?? place(at.replace(/ .*/, ' open')) ?? $('reading-results')).focus();
}

function row(step) {
  const button = (words, does, className) => {
    const made = h('button', { type: 'button', className, textContent: words, 'aria-label': `${words}: ${step.patient}`,
      onclick: () => work(step, does) });
    made.dataset.at = `${step.uid} ${words}`;
    return made;
  };
  const opens = h('button', { type: 'button', className: 'open-study', title: 'Look at it', textContent: step.patient, onclick: () => look(step.study) });
  opens.dataset.at = `${step.uid} open`;
  const cells = {
    'study-of': step.described, modality: step.modalities.join(', '), state: STATES[step.state],
    by: step.isMine ? `${step.reader || shownReader()} (you)` : step.reader, since: step.since,
  };
  const titles = Object.fromEntries(COLUMNS.map(([title, key]) => [key, title]));
  const priority = h('td', { role: 'cell', className: 'priority' }, h('span', { className: step.priority.toLowerCase(), textContent: step.priority }));
  return h('tr', { role: 'row', className: 'study' }, priority,
    h('th', { scope: 'row', role: 'rowheader' }, opens, h('small', { textContent: [step.id, step.accession].filter(Boolean).join(' · ') })),
    ...Object.entries(cells).map(([key, textContent]) => {
      const cell = h('td', { role: 'cell', className: key, textContent });
      if (textContent) cell.dataset.title = titles[key];
      return cell;
    }),
    h('td', { role: 'cell', className: 'actions' }, h('div', { className: 'row' },
      step.state === 'SCHEDULED' ? button('Claim', claim, 'first') : null,
      step.isMine ? button('Done', done, 'first') : null, step.isMine ? button('Give back', giveBack) : null,
      inOhif(step.study, 'OHIF'))));
}

// ---- what a reader does ----

/** One thing at a time; then the list as it is. */
async function work(step, does) {
  if (isWorking) return;
  isWorking = true;
  wrong('');
  let words = '';
  try {
    words = await does(step);
  } catch (error) {
    // Refused: it is as somebody else has left it.
    if (error.status === 400 || error.status === 404 || error.status === 409) {
      keep(step.uid);
      words = null;
    } else words = error.message;
  }
  isWorking = false;
  await load();
  if (words === null) {
    const left = steps.find(({ uid }) => uid === step.uid);
    words = left?.state === 'IN PROGRESS' ? `${left.reader || 'Somebody else'} has claimed this study meanwhile.`
      : left ? 'This was changed meanwhile. Try again.' : 'This study was read, or given back, meanwhile.';
  }
  if (words) wrong(words);
}

const items = (...list) => ({ vr: 'SQ', Value: list });
const code = (value, scheme, meaning) => items({ '00080100': { vr: 'SH', Value: [value] },
  '00080102': { vr: 'SH', Value: [scheme] }, '00080104': { vr: 'LO', Value: [meaning] } });

/** What is done, and by whom; with its end, all that a final state requires (PS3.4 table CC.2.5-3). */
const performed = (begun, end) => ({ '00741216': items({
  '00404019': code('110005', 'DCM', 'Interpretation'),
  '00404028': code('PAGE', '99PACS', 'Built-in page'),
  '00404033': { vr: 'SQ' },
  '00404035': items({ '00404037': { vr: 'PN', Value: [{ Alphabetic: reader() }] } }),
  '00404050': { vr: 'DT', Value: [begun] },
  ...(end && { '00404051': { vr: 'DT', Value: [end] } }),
}) });

async function claim(step) {
  if (!reader() && !await introduce()) return '';
  const transaction = randomUid();
  // Before it is asked: where the answer is lost, it can still be ended.
  keep(step.uid, transaction);
  await changeState(step.uid, transaction, 'IN PROGRESS');
  // Progress is what others hear of (PS3.4 CC.2.4).
  const progress = items({ '00741004': { vr: 'DS', Value: [0] }, '00741006': { vr: 'ST', Value: ['Being read'] } });
  await setStep(step.uid, transaction, { ...performed(now()), '00741002': progress });
  say('Claimed');
  return '';
}

async function end(step, set, state) {
  const transaction = claims()[step.uid];
  await setStep(step.uid, transaction, set);
  await changeState(step.uid, transaction, state);
  keep(step.uid);
  return '';
}

const done = (step) => end(step, performed(step.begun || now(), now()), 'COMPLETED');
/** Canceled, which is final; the server puts a new step in its place. */
const giveBack = (step) => end(step, { '00741002': items({ '0074100E': code('110513', 'DCM', 'Discontinued for unspecified reason') }) }, 'CANCELED');

// ---- the view ----

/** Shows the list; `focus` where somebody comes back to it. */
export async function restore(focus) {
  studies.clear();
  wrong('');
  follow();
  await load();
  if (focus) $('reading-results').focus();
}

export function start() {
  const form = $('filter'), FIELDS = ['text', 'modality', 'priority', 'state'];
  form.elements.modality.append(...MODALITIES.map((modality) => h('option', { textContent: modality })));
  try {
    // It may name a patient: the tab keeps it, and no address.
    JSON.parse(sessionStorage.getItem('reading'))?.forEach((value, i) => { form.elements[FIELDS[i]].value = value; });
  } catch { /* What somebody else kept there is nothing to us. */ }
  const note = () => sessionStorage.setItem('reading', JSON.stringify(FIELDS.map((field) => form.elements[field].value)));
  form.onsubmit = (event) => event.preventDefault();
  form.oninput = (event) => { note(); if (event.target.name === 'state') load(); else show(); };
  form.onreset = () => setTimeout(() => { note(); load(); });
  $('reader').onclick = introduce;
  $('who-not').onclick = () => $('who').close();
  // Another tab claimed or ended something.
  addEventListener('storage', () => { if (isShown()) load(); });
  setInterval(() => {
    if (!isShown() || document.hidden) return;
    follow();
    load();
  }, AGAIN);
}
