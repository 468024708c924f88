// Small helps for the document.

import { picture } from './dicomweb.js';

export const $ = (id) => document.getElementById(id);

/** Makes an element; properties that the element has are set, others become attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value == null) continue;
    if (key in element && !key.startsWith('aria')) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export function icon(id) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${id}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/** The heads of a table, which sort it: `sort` is told by which column, and whether down where it is sorted by that one. */
export function heads(row, columns, sorted, words, sort) {
  row.replaceChildren(...columns.map(([title, key]) => {
    const on = sorted.key === key;
    return h('th', { scope: 'col', role: 'columnheader', className: key, 'aria-sort': on ? (sorted.down ? 'descending' : 'ascending') : null },
      h('button', { type: 'button', title: `${words} ${title.toLowerCase()}`, onclick: () => {
        sort(key, on ? !sorted.down : undefined);
        row.querySelector(`.${key} button`).focus();
      } }, title, on ? h('span', { 'aria-hidden': 'true', textContent: sorted.down ? ' ↓' : ' ↑' }) : null));
  }));
}

let saying;
/** Tells a screen reader; of many in a row the last. */
export function say(words, wait = 0) {
  clearTimeout(saying);
  saying = setTimeout(() => { $('say').textContent = words; }, wait);
}

/** A number without digits that nobody needs. */
export const short = (number) => String(Math.abs(number) < 100 ? +number.toPrecision(3) : Math.round(number));

/** A thumbnail, or the modality's letters where there is none. */
export function thumb(url, modality) {
  const tile = h('span', { className: 'thumb', textContent: modality });
  const image = h('img', { alt: '', loading: 'lazy', width: 96, height: 96 });
  image.onerror = () => image.remove();
  image.onload = () => {
    tile.classList.add('there');
    URL.revokeObjectURL(image.src);
  };
  picture(url).then((src) => { image.src = src; }, image.onerror);
  tile.append(image);
  return tile;
}
