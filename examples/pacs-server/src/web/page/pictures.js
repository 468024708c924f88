// Rendered frames: fetched, decoded, and kept while there is room.

import { get } from './dicomweb.js';

/** Room for decoded pictures, in bytes. */
const ROOM = 160 * 1024 * 1024;
/** Pictures fetched ahead at once, for all panes together. */
const LANES = 3;

const kept = new Map();
const coming = new Map();
let used = 0;
let queue = [];
let running = 0;

/** The picture where it is here already. */
export function here(url) {
  const picture = kept.get(url);
  if (picture) {
    // The Map's order is that of use.
    kept.delete(url);
    kept.set(url, picture);
  }
  return picture;
}

/** The picture, as soon as it can be had. */
export function picture(url) {
  const known = here(url);
  if (known) return Promise.resolve(known);
  if (!coming.has(url)) coming.set(url, fetched(url).finally(() => coming.delete(url)));
  return coming.get(url);
}

/** Fetches these ahead, the first ones first, in place of what `owner` wanted ahead before. */
export function ahead(owner, urls) {
  queue = queue.filter((entry) => entry.owner !== owner)
    .concat(urls.filter((url) => !kept.has(url) && !coming.has(url)).map((url) => ({ owner, url })));
  pump();
}

function pump() {
  while (running < LANES && queue.length) {
    const { url } = queue.shift();
    if (kept.has(url) || coming.has(url)) continue;
    running += 1;
    // What fails ahead is asked for again when it is looked at, and fails there.
    picture(url).catch(() => {}).finally(() => { running -= 1; pump(); });
  }
}

async function fetched(url) {
  const answer = await get(url, 'image/jpeg, image/png;q=0.9');
  let bitmap;
  try {
    bitmap = await createImageBitmap(await answer.blob());
  } catch {
    throw new Error('The server’s picture can’t be read.');
  }
  kept.set(url, bitmap);
  used += bitmap.width * bitmap.height * 4;
  for (const [old, picture] of kept) {
    if (used <= ROOM || old === url) break;
    kept.delete(old);
    used -= picture.width * picture.height * 4;
    // Not closed: a pane may show it still. Nobody holds it soon, and then it is freed.
  }
  return bitmap;
}
