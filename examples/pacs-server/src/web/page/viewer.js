// The viewer: two panes, tools, and the series to choose from.

import { date, name, numbers, searchSeries, searchStudies, text, thumbnail } from './dicomweb.js';
import { $, h, icon, say, short, thumb } from './dom.js';
import { CT } from './geometry.js';
import { Pane } from './pane.js';

const TOOLS = { scroll: 's', window: 'w', zoom: 'z', pan: 'p', measure: 'm' };
const TITLES = { scroll: 'Scroll', window: 'Window', zoom: 'Zoom', pan: 'Pan', measure: 'Length' };

let tool = 'scroll';
let two = false;
let linked = false;
let active;
/** Studies in the strip: UID → its section. */
const strip = new Map();
const host = { tool: () => tool, changed, scrolled, key };
const panes = [new Pane('Image', host), new Pane('Second image', host)];
const [first, second] = panes;

/** Whether anything is open that another study could be set beside. */
export const isOpen = () => Boolean(first.study);

/** Opens a study, in place of what is open or `beside` it, at `series` or at its first one with images. */
export async function open(study, series, beside = false) {
  const pane = beside ? second : first;
  if (!beside) {
    forget();
    two = linked = false;
    second.clear();
  } else {
    two = true;
  }
  activate(pane);
  arrange();
  pane.clear('Opening the study…');
  pane.study = study;
  const list = await listStudy(study, true);
  const picks = list.filter((set) => !['SR', 'PR', 'KO', 'SEG', 'RTSTRUCT', 'RTPLAN', 'REG', 'DOC'].includes(text(set, '00080060')));
  const pick = series ?? text(picks[0] ?? list[0], '0020000E');
  if (pick) pane.load(study, pick);
  else pane.clear('There is nothing in this study.');
  pane.canvas.focus({ preventScroll: true });
}

/** Opens what an address says, as [`address`] made it. */
export async function restore(parameters) {
  linked = parameters.get('link') === '1';
  two = parameters.has('b');
  forget();
  activate(first);
  arrange();
  const list = (key) => (parameters.get(key) ?? '').split(',').map(Number);
  for (const [pane, key] of [[first, 'a'], [second, 'b']]) {
    const [study, series] = (parameters.get(key) ?? '').split('/');
    if (!/^[\d.]+$/.test(study) || !/^[\d.]+$/.test(series ?? '')) {
      pane.clear(key === 'a' ? 'This address names no series.' : 'Choose a series.');
      continue;
    }
    const [index, zoom, x, y, invert] = list(`${key}i`), [center, width] = list(`${key}w`);
    pane.load(study, series, {
      index: index - 1 || 0, zoom: zoom || 1, pan: [x || 0, y || 0], invert: invert === 1,
      window: width > 0 ? { center, width } : null,
    });
    listStudy(study, pane === first);
  }
  first.canvas.focus({ preventScroll: true });
}

/** The address of what is to be seen. UIDs only: an address is kept in histories and logs. */
function address() {
  const parameters = new URLSearchParams();
  for (const [pane, key] of [[first, 'a'], [second, 'b']]) {
    if (pane === second && !two) continue;
    parameters.set(key, pane.series ? `${pane.study}/${pane.series}` : '');
    if (!pane.series) continue;
    const round = (number) => +number.toFixed(2);
    parameters.set(`${key}i`, [pane.index + 1, round(pane.zoom), ...pane.pan.map(round), +pane.invert].join());
    if (pane.window) parameters.set(`${key}w`, `${+pane.window.center.toPrecision(6)},${+pane.window.width.toPrecision(6)}`);
  }
  if (linked) parameters.set('link', '1');
  return `#look?${parameters}`.replaceAll('%2C', ',').replaceAll('%2F', '/');
}

let noting;
function note() {
  clearTimeout(noting);
  // Browsers allow a page only so many changes of its address in a while.
  noting = setTimeout(() => {
    if (location.hash.startsWith('#look') && first.frames.length) history.replaceState(history.state, '', address());
  }, 300);
}

// ---- the strip ----

function forget() {
  strip.clear();
  $('strip').replaceChildren();
}

async function listStudy(study, others) {
  if (strip.has(study)) return strip.get(study).list;
  const heading = h('h2', { textContent: 'Study' }), body = h('ul');
  const section = h('section', {}, heading, body);
  const entry = { section, list: [] };
  strip.set(study, entry);
  $('strip').append(section);
  try {
    const [[set], list] = await Promise.all([
      searchStudies(new URLSearchParams({ StudyInstanceUID: study, limit: 1 })), searchSeries(study)]);
    entry.list = list.sort((a, b) => (numbers(a, '00200011')[0] ?? 1e9) - (numbers(b, '00200011')[0] ?? 1e9));
    heading.replaceChildren(h('span', { textContent: name(set) || 'No name' }),
      [date(set, '00080020'), text(set, '00081030')].filter(Boolean).join(' · '));
    body.replaceChildren(...entry.list.map((series) => h('li', {}, choice(study, series))));
    mark();
    const patient = text(set, '00100020');
    if (others && patient) listOthers(patient, study, section);
  } catch (error) {
    body.replaceChildren(h('li', { className: 'wrong', textContent: error.message }));
  }
  return entry.list;
}

function choice(study, set) {
  const series = text(set, '0020000E'), modality = text(set, '00080060'), count = text(set, '00201209');
  const title = text(set, '0008103E') || `Series ${text(set, '00200011')}`;
  const button = h('button', { type: 'button', className: 'choice' }, thumb(thumbnail(study, series), modality),
    h('span', {}, title, h('small', { textContent: `${modality}${count && ` · ${count}`}` })));
  button.dataset.series = series;
  button.onclick = () => {
    (active ?? first).load(study, series);
    (active ?? first).canvas.focus({ preventScroll: true });
  };
  return button;
}

/** Other studies of the patient, to be set beside this one. */
async function listOthers(patient, study, section) {
  const found = await searchStudies(new URLSearchParams({ PatientID: patient, limit: 50 })).catch(() => []);
  const list = found.filter((set) => text(set, '0020000D') !== study)
    .sort((a, b) => (date(a, '00080020') < date(b, '00080020') ? 1 : -1));
  if (!list.length) return;
  section.after(h('details', {}, h('summary', { textContent: `Other studies of this patient (${list.length})` }),
    h('ul', {}, ...list.map((set) => h('li', {}, h('button', {
      type: 'button', className: 'other', onclick: () => open(text(set, '0020000D'), undefined, true),
    }, `${date(set, '00080020')} ${text(set, '00081030')}`.trim() || 'Study', h('small', { textContent: 'open beside' })))))));
}

// ---- tools ----

const action = (id, label, key, run, title = label) => {
  const button = h('button', { type: 'button', title: `${title} (${key})`, 'aria-keyshortcuts': key, onclick: run },
    icon(id), label);
  button.dataset.key = key;
  return button;
};
const current = () => (two ? active : first);
const tools = Object.entries(TOOLS).map(([id, key]) => action(id, TITLES[id], key, () => choose(id)));
const invert = action('invert', 'Invert', 'i', () => current().setInvert(!current().invert));
const reset = action('reset', 'Reset', 'r', () => current().reset());
const cine = action('play', 'Play', ' ', () => (current().playing ? current().stop() : current().play()));
cine.title = 'Play (space)';
cine.setAttribute('aria-keyshortcuts', 'Space');
const erase = action('erase', 'Erase', 'Delete', () => current().erase(), 'Remove the last length');
const beside = action('panes', 'Two panes', 'c', () => {
  two = !two;
  if (two && !second.study) second.clear('Choose a series.');
  activate(two ? second : first);
  arrange();
  note();
});
const link = action('link', 'Link', 'l', () => { linked = !linked; arrange(); note(); }, 'Scroll both together');
const back = action('back', 'Studies', 'Escape', () => { if (history.state?.list) history.back(); else location.hash = ''; });
const help = action('help', 'Keys', '?', () => $('keys').showModal());
const buttons = [back, ...tools, invert, reset, cine, erase, beside, link, help];

const preset = h('select', { 'aria-label': 'Window preset', onchange: () => usePreset(preset.value) });
const number = (label) => h('input', { type: 'number', step: 'any', 'aria-label': label, title: label, onchange: typed });
const center = number('Window centre'), width = number('Window width');

function typed() {
  if (center.value !== '' && width.value > 0) current().setWindow({ center: +center.value, width: +width.value });
}

/** The windows on offer for what is shown. */
function presets(frame) {
  if (!frame || frame.color) return [];
  const own = frame.windows();
  const named = own.length > 1 || own[0]?.name !== 'Window 1' ? own : [];
  return text(frame.set, '00080060') === 'CT' ? [...CT, ...named] : named;
}

function usePreset(at) {
  const pane = current();
  if (at === '') pane.setWindow(null);
  else if (presets(pane.frame)[at]) pane.setWindow(presets(pane.frame)[at]);
}

function choose(id) {
  tool = id;
  say(`${TITLES[id]}: arrow keys and dragging`);
  changed(current());
}

function key(event, pane) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const button = buttons.find(({ dataset }) => dataset.key === pressed || (pressed === 'Backspace' && dataset.key === 'Delete'));
  if (button) button.click();
  else if (pressed === '0') usePreset('');
  else if (/^[1-9]$/.test(pressed)) usePreset(pressed - 1);
  else if (pressed === '+' || pressed === '=') pane.zoomBy(1.25);
  else if (pressed === '-') pane.zoomBy(0.8);
  else return;
  event.preventDefault();
}

// ---- what hangs together ----

function activate(pane) {
  active = pane;
  panes.forEach((other) => other.element.classList.toggle('active', other === pane));
  changed(pane);
}

/** The other pane goes along: to the same place where both lie in one space, else by as many images. */
function scrolled(pane, by) {
  if (!linked || !two) return;
  const other = pane === first ? second : first;
  if (!other.frame) return;
  const depth = pane.frame.depth(), same = text(pane.frame.set, '00200052');
  const turned = (frame) => (frame.orientation() ?? []).map((n) => n.toFixed(1)).join();
  if (depth != null && same && same === text(other.frame.set, '00200052') && turned(pane.frame) === turned(other.frame)) {
    const away = other.frames.map((frame) => Math.abs((frame.depth() ?? Infinity) - depth));
    other.go(away.indexOf(Math.min(...away)), true);
  } else {
    other.go(other.index + by, true);
  }
}

let marking;
function changed(pane) {
  note();
  // Many changes in one frame show once.
  marking ??= requestAnimationFrame(() => { marking = null; mark(); });
}

function mark() {
  const pane = current();
  if (!pane) return;
  const { frame } = pane, press = (button, on) => button.setAttribute('aria-pressed', String(Boolean(on)));
  tools.forEach((button, i) => press(button, Object.keys(TOOLS)[i] === tool));
  press(invert, pane.invert);
  press(beside, two);
  press(link, linked);
  press(cine, pane.playing);
  cine.firstChild.firstChild.setAttribute('href', pane.playing ? '#i-pause' : '#i-play');
  link.hidden = !two;
  cine.disabled = pane.frames.length < 2;
  const list = presets(frame), grey = Boolean(frame && !frame.color);
  for (const field of [preset, center, width]) field.disabled = !grey;
  const wanted = ['Window of the image', ...list.map((each) => each.name)];
  if (wanted.join() !== [...preset.options].map((option) => option.text).join()) {
    preset.replaceChildren(...wanted.map((words, i) => h('option', { value: i ? i - 1 : '', textContent: words })));
    preset.append(h('option', { value: 'own', textContent: 'Your own', hidden: true }));
  }
  const { window } = pane, size = window ?? (grey ? frame.windows()[0] : null);
  const at = window ? list.findIndex((each) => each.center === window.center && each.width === window.width) : '';
  preset.value = at === -1 ? 'own' : at;
  for (const [field, value] of [[center, size?.center], [width, size?.width]]) {
    if (document.activeElement !== field || field.matches(':disabled')) field.value = value == null ? '' : short(value);
  }
  for (const button of $('strip').querySelectorAll('.choice')) {
    const on = panes.some((each, i) => (two || i === 0) && each.series === button.dataset.series);
    button.setAttribute('aria-pressed', String(on));
  }
  for (const each of panes) each.canvas.dataset.tool = tool;
}

function arrange() {
  second.element.hidden = !two;
  first.title = two ? 'First image' : 'Image';
  $('panes').classList.toggle('two', two);
  changed(active);
}

/** Plays nothing on. */
export function stop() { panes.forEach((pane) => pane.stop()); }

export function start() {
  const group = (label, ...children) => h('div', { role: 'group', 'aria-label': label }, ...children);
  $('bar').append(back, group('Tool', ...tools), group('Window', preset, h('label', {}, 'C', center), h('label', {}, 'W', width)),
    group('Image', invert, reset, cine, erase), group('Panes', beside, link), help);
  $('panes').append(...panes.map((pane) => pane.element));
  for (const pane of panes) pane.element.addEventListener('focusin', () => { if (active !== pane) activate(pane); });
  for (const pane of panes) pane.element.addEventListener('pointerdown', () => { if (active !== pane) activate(pane); });
  // Keys work in the whole viewer except where one writes or chooses; there, only Escape does.
  $('viewer').addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.target.tagName === 'CANVAS') return;
    if (event.key === 'Escape') key(event, current());
  });
  $('keys-body').append(
    h('p', { id: 'keys-short', textContent: 'Arrow keys do what the chosen tool does; with Shift they change the window. Press ? for all keys.' }),
    h('table', {}, h('tbody', {}, ...[
      ['Wheel, Page up, Page down, Home, End', 'other images'],
      ['Drag, arrow keys', 'what the tool does'],
      ['S W Z P M', 'tool: scroll, window, zoom, pan, length'],
      ['Right drag, Shift + arrow keys', 'window: across its width, up and down its centre'],
      ['0, 1 to 9', 'window of the image, presets in their order'],
      ['+ and −, Ctrl + wheel, two fingers', 'zoom; two fingers and the middle button also pan'],
      ['M, arrow keys, Enter, Enter', 'a length; Delete removes the last'],
      ['I  R  Space', 'invert, reset, play'],
      ['C  L', 'two panes, linked scroll'],
      ['Escape', 'back to the studies'],
    ].map(([keys, does]) => h('tr', {}, h('th', { scope: 'row', textContent: keys }), h('td', { textContent: does }))))));
}
