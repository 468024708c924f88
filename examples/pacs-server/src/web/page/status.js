// How the server is: GET /status.

import { get, root } from './dicomweb.js';
import { $, h } from './dom.js';
import { offerOhif } from './list.js';

const count = new Intl.NumberFormat();
const amount = (bytes) => {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let at = 0;
  while (bytes >= 999.5 && at < units.length - 1) { bytes /= 1000; at += 1; }
  return `${at && bytes < 99.5 ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
};
const duration = (seconds) => {
  const [days, hours, minutes] = [seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60].map(Math.floor);
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : `${minutes} min`;
};

let timer;

/** One bar for each minute, the running one last. */
function chart(received) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const list = received.instances, most = Math.max(...list, 1);
  svg.setAttribute('viewBox', `0 0 ${list.length * 5} 44`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  const total = list.reduce((sum, n) => sum + n, 0);
  svg.setAttribute('aria-label', `${count.format(total)} instances in the last ${list.length} minutes`);
  list.forEach((n, i) => {
    const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    const height = n ? Math.max(2, n / most * 42) : 1;
    for (const [key, value] of Object.entries({ x: i * 5 + 1, y: 44 - height, width: 3, height })) bar.setAttribute(key, value);
    svg.append(bar);
  });
  return h('div', { className: 'chart' }, svg);
}

function show(status) {
  const { totals, disk, received, associations, ohif } = status;
  const sum = (list) => list.reduce((all, n) => all + n, 0);
  // The running minute is not over: the rate is that of the one before.
  const last = (list) => list.at(-2) ?? 0;
  const rate = (of) => `${count.format(of(received.instances))} instances (${amount(of(received.bytes))})`;
  const rows = [
    ['Kept', `${count.format(totals.patients)} patients, ${count.format(totals.studies)} studies, ${count.format(totals.series)} series, ${count.format(totals.instances)} instances, ${amount(totals.bytes)}`],
    ['Disk', disk ? `${amount(disk.free_bytes)} free of ${amount(disk.total_bytes)}` : 'not known'],
    ['Received', `${rate(last)} in the last minute, ${rate(sum)} in the last ${received.instances.length} minutes`],
    ['Associations', `${count.format(associations.open)} open, ${count.format(associations.limit)} at most`],
    ['DICOM', `${status.ae_title} at ${status.dicom}`],
    ['DICOMweb', new URL('dicom-web', root).href],
    ['Running', `for ${duration(status.uptime_seconds)}, version ${status.version}`],
    ['OHIF', ohif.installed ? 'installed' : h('span', {}, 'not installed; this and a restart bring it: ', h('code', { textContent: ohif.install }))],
  ];
  const used = disk && h('meter', { min: 0, max: disk.total_bytes, high: disk.total_bytes * 0.9, value: disk.total_bytes - disk.free_bytes, 'aria-label': 'Disk used' });
  $('status-body').replaceChildren(h('dl', {}, ...rows.flatMap(([term, value]) => [h('dt', { textContent: term }),
    h('dd', {}, value, term === 'Disk' ? used : null, term === 'Received' ? chart(received) : null)])));
}

async function refresh() {
  clearTimeout(timer);
  const button = $('show-status');
  try {
    const status = await (await get(new URL('status', root), 'application/json')).json();
    $('title').textContent = status.ae_title;
    document.title = `${status.ae_title} – PACS`;
    const { disk } = status, full = disk && disk.free_bytes < disk.total_bytes * 0.1;
    button.textContent = `${count.format(status.totals.studies)} studies${full ? ', disk nearly full' : ''}`;
    button.classList.toggle('bad', Boolean(full));
    offerOhif(status.ohif.installed);
    $('full').replaceChildren(...(status.ohif.installed ? [] : [' OHIF, the full viewer, is not installed: ', h('code', { textContent: status.ohif.install }), ' and a restart bring it.']));
    show(status);
  } catch (error) {
    button.textContent = 'No answer';
    button.classList.add('bad');
    $('status-body').replaceChildren(h('p', { className: 'wrong', textContent: error.message }));
  }
  button.setAttribute('aria-label', `Server status: ${button.textContent}`);
  timer = setTimeout(refresh, document.hidden ? 120000 : $('status').open ? 5000 : 60000);
}

export function start() {
  $('show-status').onclick = () => { $('status').showModal(); refresh(); };
  return refresh();
}
