// What is asked of the server, and what its answers mean.

/** Where the server's paths begin; the page itself may lie below it. */
export const root = new URL(document.querySelector('meta[name=root]').content, document.baseURI);
const studies = new URL('dicom-web/studies', root).href;

/** By which somebody comes who was sent a link. It is in no address for long, and in no other tab. */
const given = new URLSearchParams(location.hash.slice(1)).get('token');
if (given) {
  sessionStorage.setItem('token', given);
  history.replaceState(null, '', location.pathname + location.search);
}
const token = sessionStorage.getItem('token');

const WORDS = {
  400: 'The server does not understand this request.',
  401: 'You are not signed in.',
  403: 'You are not allowed to do this.',
  404: 'This is not on the server, or no longer.',
  406: 'The server has no picture of this.',
  410: 'This is no longer on the server.',
  413: 'This is more than the server answers at once.',
  429: 'The server is busy. Try again in a moment.',
  501: 'The server can’t do this.',
  503: 'The server is busy. Try again in a moment.',
};

/** Fetches; what goes wrong is an error whose message can be shown, with the status where there was an answer. */
export async function get(url, accept, signal, more) {
  let answer;
  try {
    const headers = { Accept: accept, ...(more && { 'Content-Type': accept }), ...(token && { Authorization: `Bearer ${token}` }) };
    answer = await fetch(url, { headers, signal, ...more });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The server can’t be reached. Is it running, and are you connected?');
  }
  if (answer.ok) return answer;
  let words = WORDS[answer.status] ?? (answer.status < 500 ? WORDS[400] : 'The server failed at this.');
  if (/problem\+json/.test(answer.headers.get('Content-Type'))) {
    const problem = await answer.json().catch(() => ({}));
    if (problem.detail) words += ` It says: ${problem.detail}`;
  }
  throw Object.assign(new Error(words), { status: answer.status });
}

async function sets(url, signal) {
  const answer = await get(url, 'application/dicom+json', signal);
  return answer.status === 204 ? [] : answer.json();
}

/** Where an element finds a picture: itself can't say who asks. */
export async function picture(url) {
  return token ? URL.createObjectURL(await (await get(url, 'image/jpeg')).blob()) : url;
}

const seriesPath = (study, series) => `${studies}/${study}/series/${series}`;

export const searchStudies = (parameters, signal) => sets(
  `${studies}?${parameters}&includefield=00081030,00080061,00201206,00201208,00100030`, signal);
export const searchSeries = (study, signal) => sets(
  `${studies}/${study}/series?includefield=0008103E,00201209,00200011,00080060`, signal);
export const seriesMetadata = (study, series, signal) => sets(`${seriesPath(study, series)}/metadata`, signal);
export const thumbnail = (study, series) => `${seriesPath(study, series)}/thumbnail?viewport=128,128`;
export const rendered = (study, series, instance, frame) =>
  `${seriesPath(study, series)}/instances/${instance}/frames/${frame}/rendered`;

/** How far studies are, by their UIDs. */
export const studyStatus = async (list, signal) => (await get(new URL(`study-status?study=${list}`, root), 'application/json', signal)).json();

const workitems = new URL('dicom-web/workitems', root).href;
const send = (method, url, set) => get(url, 'application/dicom+json', undefined, { method, body: set && JSON.stringify(set) });

/** Reading steps, the most urgent first (PS3.18 11.9). */
export const searchSteps = (parameters) => sets(`${workitems}?WorklistLabel=READING&includefield=00741216&${parameters}`);
/** PS3.18 11.6, by whoever has claimed it. */
export const setStep = (step, transaction, set) => send('POST', `${workitems}/${step}?transaction-uid=${transaction}`, set);
/** PS3.18 11.7. */
export const changeState = (step, transaction, state) => send('PUT', `${workitems}/${step}/state`, {
  '00081195': { vr: 'UI', Value: [transaction] }, '00741000': { vr: 'CS', Value: [state] } });

/** All browsers are one subscriber: each of its event channels hears of everything. */
const PAGE = 'READING-PAGE';
/** Subscribes to the reading steps that are open, and to those that come (PS3.18 11.10, 8.10). */
export async function listen(heard) {
  await send('POST', `${workitems}/1.2.840.10008.5.1.4.34.5.1/subscribers/${PAGE}?filter=WorklistLabel=READING,ProcedureStepState=SCHEDULED%5CIN%20PROGRESS`);
  const socket = new WebSocket(new URL(`dicom-web/ws/subscribers/${PAGE}`, root).href.replace(/^http/, 'ws'));
  socket.onmessage = heard;
  return socket;
}

/** All values of an attribute. */
export const values = (set, tag) => set?.[tag]?.Value ?? [];
/** The first value as a text. */
export const text = (set, tag) => {
  const value = values(set, tag)[0];
  return value == null ? '' : String(value);
};
/** All values as numbers. */
export const numbers = (set, tag) => values(set, tag).map(Number).filter(Number.isFinite);

/** A person's name as people write it. */
export function name(set, tag = '00100010') {
  const value = values(set, tag)[0];
  const group = value?.Alphabetic || value?.Ideographic || value?.Phonetic || '';
  const [family, given, middle, prefix, suffix] = group.split('^').map((part) => part.trim());
  const rest = [prefix, given, middle, suffix].filter(Boolean).join(' ');
  return [family, rest].filter(Boolean).join(', ');
}

/** A DICOM date as ISO 8601 writes it. */
export const date = (set, tag) => text(set, tag).replace(/^(\d{4})\.?(\d\d)\.?(\d\d)$/, '$1-$2-$3');
