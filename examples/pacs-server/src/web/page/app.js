// The page: a list of studies, what is to be read, and a viewer. The address says which of them is to be seen.

import { $ } from './dom.js';
import * as list from './list.js';
import * as reading from './reading.js';
import * as status from './status.js';
import * as viewer from './viewer.js';

function turn() {
  const view = location.hash.match(/^#(look|reading)/)?.[1] ?? 'list', looking = view === 'look';
  $('list').hidden = looking;
  $('viewer').hidden = !looking;
  document.body.classList.toggle('looking', looking);
  if (looking) return view;
  $('finding').hidden = view !== 'list';
  $('reading').hidden = view !== 'reading';
  for (const [id, of] of [['to-studies', 'list'], ['to-reading', 'reading']]) {
    if (view === of) $(id).setAttribute('aria-current', 'page');
    else $(id).removeAttribute('aria-current');
  }
  $('skip').href = view === 'list' ? '#results' : '#reading-results';
  return view;
}

/** Shows what the address says. */
function route() {
  const parameters = new URLSearchParams(location.hash.split('?')[1]), looked = !$('viewer').hidden;
  const view = turn();
  if (view === 'look') return viewer.restore(parameters);
  viewer.stop();
  if (view === 'reading') reading.restore(looked);
  else list.restore(parameters, looked);
}

list.start();
reading.start();
viewer.start();
status.start();
addEventListener('look', turn);
addEventListener('popstate', route);
route();
