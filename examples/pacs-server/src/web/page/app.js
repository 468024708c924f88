// The page: a list of studies, and a viewer. The address says which of them is to be seen.

import { $ } from './dom.js';
import * as list from './list.js';
import * as status from './status.js';
import * as viewer from './viewer.js';

function turn() {
  const looking = location.hash.startsWith('#look');
  $('list').hidden = looking;
  $('viewer').hidden = !looking;
  document.body.classList.toggle('looking', looking);
  return looking;
}

/** Shows what the address says. */
function route() {
  const parameters = new URLSearchParams(location.hash.split('?')[1]), looked = !$('viewer').hidden;
  if (turn()) return viewer.restore(parameters);
  viewer.stop();
  list.restore(parameters, looked);
}

list.start();
viewer.start();
status.start();
addEventListener('look', turn);
addEventListener('popstate', route);
route();
