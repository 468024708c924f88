// Search, the list of studies, and a study's series.

import { date, name, numbers, root, searchSeries, searchStudies, studyStatus, text, thumbnail, values } from './dicomweb.js';
import { $, h, heads, say, thumb } from './dom.js';
import { isOpen, open } from './viewer.js';

const PAGE = 50;
export const MODALITIES = 'CR CT DX ES IO IVUS MG MR NM OCT OP OT PT PX RF RTDOSE RTIMAGE SC SEG SM SR US XA XC'.split(' ');
/** What names a patient stays out of the address, which histories keep; the tab keeps it. */
const NAMING = ['PatientName', 'PatientID', 'AccessionNumber'];

let offset = 0;
let asking;
let found = [];
/** How far the studies found are, by their UIDs. */
let status = {};
let sorted = { key: 'date', down: true };
let ohif = false;

const COLUMNS = [
  ['Patient', 'name', (set) => name(set) || '—'],
  ['ID', 'id', (set) => text(set, '00100020')],
  ['Born', 'born', (set) => date(set, '00100030')],
  ['Date', 'date', (set) => `${date(set, '00080020')} ${text(set, '00080030').replace(/^(\d\d):?(\d\d).*$/, '$1:$2')}`.trim()],
  ['Modalities', 'modalities', (set) => values(set, '00080061').join(', ')],
  ['Description', 'description', (set) => text(set, '00081030')],
  ['Series', 'series', (set) => text(set, '00201206')],
  ['Instances', 'images', (set) => text(set, '00201208')],
  ['Status', 'state', (set) => status[text(set, '0020000D')] ?? ''],
];

/** What the form asks for, in DICOM's words. */
function query() {
  const form = $('search'), parameters = new URLSearchParams();
  for (const field of NAMING) {
    let value = form.elements[field].value.trim();
    if (!value) continue;
    // A name is found by how its parts begin.
    if (field === 'PatientName' && !/[*?]/.test(value)) value = `${value.split(/[\s,^]+/).filter(Boolean).join('*')}*`;
    parameters.set(field, value);
  }
  const [from, to] = ['from', 'to'].map((field) => form.elements[field].value.replaceAll('-', ''));
  if (from || to) parameters.set('StudyDate', from === to ? from : `${from}-${to}`);
  if (form.elements.modality.value) parameters.set('ModalitiesInStudy', form.elements.modality.value);
  parameters.set('limit', PAGE + 1);
  if (offset) parameters.set('offset', offset);
  return parameters;
}

async function search(focus) {
  asking?.abort();
  const mine = asking = new AbortController();
  $('wrong').hidden = true;
  $('results').setAttribute('aria-busy', 'true');
  try {
    // One more than is shown tells whether there is a next page.
    const sets = await searchStudies(query(), mine.signal);
    const shown = sets.slice(0, PAGE);
    // Where there is no worklist nobody knows.
    const told = shown.length ? await studyStatus(shown.map((set) => text(set, '0020000D')), mine.signal).catch(() => ({})) : {};
    if (asking !== mine) return;
    [found, status] = [shown, told];
    $('next').disabled = sets.length <= PAGE;
    $('previous').disabled = offset === 0;
    $('range').textContent = found.length ? `${offset + 1} – ${offset + found.length}` : '';
    $('found').textContent = found.length ? 'Studies' : 'No study matches';
    say(found.length ? `${found.length} studies${sets.length > PAGE ? ', and more' : ''}` : 'No study matches');
    show();
    if (focus) $('results').focus();
  } catch (error) {
    if (error.name === 'AbortError') return;
    found = [];
    show();
    $('wrong').textContent = error.message;
    $('wrong').hidden = false;
  } finally {
    if (asking === mine) $('results').removeAttribute('aria-busy');
  }
}

function show() {
  const [, , read] = COLUMNS.find(([, key]) => key === sorted.key);
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const rows = [...found].sort((a, b) => compare(read(a), read(b)) * (sorted.down ? -1 : 1));
  heads($('columns'), COLUMNS, sorted, 'Sort this page by', (key, down = key === 'date') => {
    sorted = { key, down };
    show();
  });
  $('studies').replaceChildren(...rows.flatMap(row));
}

/** A study's two rows: itself, and its series once they are asked for. */
function row(set) {
  const study = text(set, '0020000D'), id = `s-${study}`;
  const inner = h('td', { role: 'cell', colSpan: COLUMNS.length });
  const below = h('tr', { role: 'row', className: 'below', id, hidden: true }, inner);
  const toggle = h('button', { type: 'button', className: 'toggle', 'aria-expanded': 'false', 'aria-controls': id }, COLUMNS[0][2](set));
  const cells = COLUMNS.slice(1).map(([title, key, read]) => {
    const value = read(set);
    const cell = h('td', { role: 'cell', className: key, textContent: value });
    if (value) cell.dataset.title = title;
    return cell;
  });
  const itself = h('tr', { role: 'row', className: 'study' }, h('th', { scope: 'row', role: 'rowheader' }, toggle), ...cells);
  itself.onclick = (event) => { if (!event.target.closest('button, a') && !String(getSelection())) toggle.click(); };
  itself.ondblclick = () => look(study);
  toggle.onclick = () => {
    below.hidden = !below.hidden;
    toggle.setAttribute('aria-expanded', String(!below.hidden));
    itself.classList.toggle('open', !below.hidden);
    if (!below.hidden && !inner.childElementCount) fill(inner, study);
  };
  return [itself, below];
}

async function fill(inner, study) {
  inner.replaceChildren('Opening…');
  try {
    const list = await searchSeries(study);
    list.sort((a, b) => (numbers(a, '00200011')[0] ?? 1e9) - (numbers(b, '00200011')[0] ?? 1e9));
    const button = (words, run, className) => h('button', { type: 'button', className, textContent: words, onclick: run });
    inner.replaceChildren(h('div', { className: 'row' }, button('Look at it', () => look(study), 'first'),
      isOpen() ? button('Set beside the open one', () => look(study, undefined, true)) : null,
      inOhif(study, 'Open in OHIF')),
    h('ul', { className: 'series' }, ...list.map((set) => {
      const series = text(set, '0020000E'), modality = text(set, '00080060'), count = text(set, '00201209');
      return h('li', {}, h('button', { type: 'button', className: 'card', onclick: () => look(study, series) },
        thumb(thumbnail(study, series), modality),
        h('span', {}, text(set, '0008103E') || `Series ${text(set, '00200011')}`,
          h('small', { textContent: `${modality} · ${count} ${count === '1' ? 'instance' : 'instances'}` }))));
    })));
  } catch (error) {
    inner.replaceChildren(h('p', { className: 'wrong', role: 'alert', textContent: error.message }));
  }
}

/** A link to a study in OHIF, where that is. */
export const inOhif = (study, words) => (ohif ? h('a', { className: 'button', href: new URL(`viewer?StudyInstanceUIDs=${study}`, root).href, textContent: words }) : null);

/** Shows a study in the viewer, from whichever list. */
export function look(study, series, beside = false) {
  // The viewer makes the address complete, and goes back to this list.
  history.pushState({ list: true }, '', '#look');
  dispatchEvent(new Event('look'));
  open(study, series, beside);
}

/** The address of the list: what names nobody. */
function note() {
  const form = $('search'), parameters = new URLSearchParams();
  for (const field of ['from', 'to', 'modality']) if (form.elements[field].value) parameters.set(field, form.elements[field].value);
  if (offset) parameters.set('offset', offset);
  history.replaceState(null, '', String(parameters) ? `#list?${parameters}` : location.pathname + location.search);
  $('to-studies').href = location.hash || '#list';
  sessionStorage.setItem('naming', JSON.stringify(NAMING.map((field) => form.elements[field].value)));
}

function days(count) {
  const form = $('search'), day = (date) => `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, '0')}-${String(date.getDate()).padStart(2, '0')}`;
  const begin = new Date();
  begin.setDate(begin.getDate() - (count - 1));
  form.elements.from.value = count ? day(begin) : '';
  form.elements.to.value = count ? day(new Date()) : '';
}

function again(to, focus) {
  offset = to;
  note();
  search(focus);
}

/** Tells whether OHIF is there. */
export function offerOhif(installed) { ohif = installed; }

/** Shows the list that an address names; `focus` where somebody comes back to it. */
export function restore(parameters, focus) {
  const form = $('search');
  for (const field of ['from', 'to', 'modality']) form.elements[field].value = parameters.get(field) ?? '';
  offset = Math.max(0, Number.parseInt(parameters.get('offset'), 10) || 0);
  search(focus);
}

export function start() {
  const form = $('search');
  form.elements.modality.append(...MODALITIES.map((modality) => h('option', { textContent: modality })));
  try {
    JSON.parse(sessionStorage.getItem('naming'))?.forEach((value, i) => { form.elements[NAMING[i]].value = value; });
  } catch { /* What somebody else kept there is nothing to us. */ }
  form.onsubmit = (event) => { event.preventDefault(); again(0, true); };
  form.onreset = () => setTimeout(() => again(0));
  form.elements.modality.onchange = form.elements.from.onchange = form.elements.to.onchange = () => again(0);
  for (const button of form.querySelectorAll('[data-days]')) {
    button.onclick = () => { days(Number(button.dataset.days)); again(0); };
  }
  $('previous').onclick = () => again(Math.max(0, offset - PAGE), true);
  $('next').onclick = () => again(offset + PAGE, true);
}
